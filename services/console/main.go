// Console shows where everything stands, to people as a page and to programs as JSON.
package main

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/services/console/console"
)

func main() {
	service.Main("console", "shows where everything stands: a page for people, an HTTP API for programs.", run)
}

// run connects to NATS and serves until ctx ends.
func run(ctx context.Context, env *service.Env) error {
	b, err := service.Attach(ctx, env, "console")
	if err != nil {
		return err
	}
	defer b.Close()
	return console.Run(ctx, env.Config, b, env.Log)
}
