// Package mcpserver offers a memory to agents by the Model Context Protocol: eight tools, some
// resources and prompts. Each tool is one or two calls of a Store. It keeps no state between
// calls but the open Store: the episode that an agent is recording is found by its handle, or
// by the agent's session. What the protocol needs on stdin and stdout beyond the SDK is in
// stdio.go; the SDK's HTTP handler can serve a Server too.
package mcpserver
