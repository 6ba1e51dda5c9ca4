// Rollcall is the command line, and every service in one process.
package main

import (
	"os"

	"github.com/rollcall-scim/rollcall/services/rollcall/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
