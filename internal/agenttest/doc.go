// Package agenttest runs real agent programs, such as Claude Code and Codex, against a language
// model on this machine that says what a test has it say. It tells how each program is set up
// and run, and what its model was sent. Its tests are those of the program as its users meet it;
// make agents installs the parts that they need, and runs them.
package agenttest
