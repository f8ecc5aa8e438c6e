// What OpenCode's plug-ins do: tells episodic what happens, and the model what episodic says.
import { spawn } from "node:child_process";

function hook(payload) {
  return new Promise((resolve) => {
    const child = spawn("episodic", ["hook", payload.event], { stdio: ["pipe", "pipe", "ignore"] });
    let out = "";
    child.on("error", () => resolve(""));
    child.stdout.on("data", (text) => (out += text));
    child.on("close", () => {
      try {
        resolve(JSON.parse(out).context ?? "");
      } catch {
        resolve("");
      }
    });
    child.stdin.on("error", () => {});
    child.stdin.end(JSON.stringify({ client: "opencode", ...payload }));
  });
}

export const Episodic = async ({ directory }) => {
  const starts = new Map(); // session -> what is said at its start
  const say = (event, sessionID, more) => hook({ event, sessionID, directory, ...more });
  return {
    event: async ({ event }) => {
      const { info, sessionID, part } = event.properties ?? {};
      if (event.type === "session.created") starts.set(info.id, say(event.type, info.id));
      if (event.type === "session.idle") await say(event.type, sessionID);
      if (event.type === "session.deleted") await say(event.type, info.id);
      if (event.type === "message.part.updated" && part.type === "tool" && part.state.status === "error") {
        await say("tool.execute.after", part.sessionID, { callID: part.callID, tool: part.tool, args: part.state.input, error: part.state.error });
      }
    },
    "chat.message": async ({ sessionID, messageID }, { message, parts }) => {
      const text = parts.filter((p) => p.type === "text" && !p.synthetic).map((p) => p.text).join("\n");
      await starts.get(sessionID);
      const context = await say("chat.message", sessionID, { messageID: messageID ?? message.id, text });
      if (context) {
        parts.push({ id: "prt_" + Date.now(), sessionID, messageID: message.id, type: "text", synthetic: true, text: context });
      }
    },
    "experimental.chat.system.transform": async ({ sessionID }, { system }) => {
      const context = await starts.get(sessionID);
      if (context) system.push(context);
    },
    "tool.execute.after": async ({ tool, sessionID, callID, args }, { output, metadata, content }) => {
      await say("tool.execute.after", sessionID, { callID, tool, args, output: { output: output ?? content, metadata } });
    },
    "experimental.session.compacting": async ({ sessionID }, { context }) => {
      const text = await say("experimental.session.compacting", sessionID);
      if (text) context.push(text);
    },
  };
};
