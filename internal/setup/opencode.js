// Written by episodic setup; episodic setup --undo opencode removes it.
import { spawn } from "node:child_process"

const command = ["episodic", "hook"]
const patience = 3000 // milliseconds for an event
const remembered = 4 // texts of a session that are in the system prompt

// record tells episodic of an event, and returns what it has for the model. It never fails.
function record(event, payload) {
  return new Promise((resolve) => {
    let said = ""
    const args = [...command.slice(1), event, "--client", "opencode"]
    const child = spawn(command[0], args, { stdio: ["pipe", "pipe", "ignore"], windowsHide: true })
    const timer = setTimeout(() => child.kill(), patience)
    const done = (text) => {
      clearTimeout(timer)
      resolve(text)
    }
    child.on("error", () => done(""))
    child.stdin.on("error", () => {})
    child.stdout.on("data", (data) => (said += data))
    child.on("close", () => {
      try {
        done(JSON.parse(said).context ?? "")
      } catch {
        done("") // it had nothing to say
      }
    })
    child.stdin.end(JSON.stringify({ client: "opencode", event, ...payload }))
  })
}

export const Episodic = async ({ directory }) => {
  const told = new Map()
  const tell = async (event, sessionID, payload) => {
    const text = await record(event, { sessionID, directory, ...payload })
    if (text) told.set(sessionID, [...(told.get(sessionID) ?? []), text].slice(-remembered))
  }
  return {
    event: async ({ event }) => {
      const { info, part } = event.properties ?? {}
      const sessionID = event.properties?.sessionID ?? info?.id
      if (event.type === "session.created") await tell(event.type, sessionID, {})
      if (event.type === "session.idle" || event.type === "session.deleted") await record(event.type, { sessionID, directory })
      if (event.type === "session.deleted") told.delete(sessionID)
      if (event.type === "message.part.updated" && part?.type === "tool" && part.state.status === "error") {
        const { tool, callID, state } = part // a tool that fails is never "after"
        await record("tool.execute.after", { sessionID: part.sessionID, directory, tool, callID, args: state.input, error: state.error })
      }
    },
    "chat.message": async (input, output) => {
      const text = output.parts.flatMap((part) => (part.type === "text" && !part.synthetic ? [part.text] : [])).join("\n")
      await tell("chat.message", input.sessionID, { messageID: output.message.id, text })
    },
    "tool.execute.after": async (input, output) => {
      const { tool, sessionID, callID, args } = input
      const { content, metadata } = output // a server's tool has content, and a command's exit code is among the metadata
      await record("tool.execute.after", { sessionID, directory, tool, callID, args, output: { output: output.output ?? content, metadata } })
    },
    "experimental.chat.system.transform": async (input, output) => {
      output.system.push(...(told.get(input.sessionID) ?? []))
    },
    "experimental.session.compacting": async (input, output) => {
      const text = await record("experimental.session.compacting", { sessionID: input.sessionID, directory })
      if (text) output.context.push(text)
    },
  }
}
