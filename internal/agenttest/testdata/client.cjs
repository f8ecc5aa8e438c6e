// A client of an MCP server, with one of the TypeScript SDKs: client.cjs SDK PLACE, where SDK is v1,
// v2 (which asks with server/discover first) or v2-legacy, and PLACE is the URL of a server, or the
// program of one with its arguments as a JSON array. On stdin it is told what to ask, a JSON array
// of [method of the client, argument...]; it prints the answers as one.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const need = createRequire(process.env.EPISODIC_AGENTS + "/");
const [sdk, place] = process.argv.slice(2);

function load() {
  if (sdk === "v1") {
    return {
      ...need("@modelcontextprotocol/sdk/client/index.js"),
      ...need("@modelcontextprotocol/sdk/client/stdio.js"),
      ...need("@modelcontextprotocol/sdk/client/streamableHttp.js"),
    };
  }
  return { ...need("@modelcontextprotocol/client"), ...need("@modelcontextprotocol/client/stdio") };
}

async function main() {
  const { Client, StdioClientTransport, StreamableHTTPClientTransport } = load();
  const options = sdk === "v2" ? { versionNegotiation: { mode: "auto" } } : {};
  const client = new Client({ name: "tester-" + sdk, version: "1" }, options);
  let transport;
  if (place.startsWith("http")) {
    const token = process.env.TOKEN;
    transport = new StreamableHTTPClientTransport(new URL(place), token && { requestInit: { headers: { Authorization: "Bearer " + token } } });
  } else {
    const [command, ...args] = JSON.parse(place);
    transport = new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" });
  }
  await client.connect(transport);
  const answers = [{ server: client.getServerVersion(), instructions: client.getInstructions() }];
  for (const [method, ...args] of JSON.parse(readFileSync(0, "utf8"))) {
    try {
      answers.push(await client[method](...args));
    } catch (e) {
      answers.push({ error: { code: e.code, message: e.message } });
    }
  }
  await client.close();
  console.log(JSON.stringify(answers));
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
