// Command worker is a writer of the scenario "writers" as a program of its own, for
// its flag -baseline: copied with its parent folder into the tree of another commit,
// it shows how the Stores of that one write.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/episodic-memory/episodic/bench/agent"
)

func main() {
	if err := agent.Run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "worker: %v\n", err)
		os.Exit(1)
	}
}
