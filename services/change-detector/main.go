// Change-detector watches the sources and publishes what changed.
package main

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
)

func main() {
	service.Main("change-detector", "watches LDAP directories and publishes what changed.", run)
}

// run connects to NATS and detects changes until ctx ends.
func run(ctx context.Context, env *service.Env) error {
	b, err := service.Connect(ctx, env, "change-detector")
	if err != nil {
		return err
	}
	defer b.Close()
	return recovery.Run(ctx, b, env.Config, env.Log, func(ctx context.Context, _ *recovery.Watch) error {
		return detector.Run(ctx, env.Config, b, env.Log)
	})
}
