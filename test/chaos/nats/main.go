// Nats is a NATS server for the tests of chaos, apart from their process, so that
// the race detector does not slow it down. It runs until it is killed.
package main

import (
	"fmt"
	"os"

	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
)

func main() {
	if _, err := embedded.Start(embedded.Config{DataDir: os.Args[1], NoSync: true}); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}
