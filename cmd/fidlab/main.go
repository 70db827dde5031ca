// Command fidlab scores and samples image generators; see fidlab help.
package main

import (
	"os"

	"github.com/fidlab/fidlab/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.System())) }
