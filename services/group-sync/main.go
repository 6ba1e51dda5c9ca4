// Group-sync keeps the groups of every target equal to the directory.
package main

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

func main() {
	service.Main("group-sync", "keeps the groups of every target equal to the directory.", run)
}

// run connects to NATS and works until ctx ends.
func run(ctx context.Context, env *service.Env) error {
	b, err := service.Connect(ctx, env, "group-sync")
	if err != nil {
		return err
	}
	defer b.Close()
	return recovery.Run(ctx, b, env.Config, env.Log, func(ctx context.Context, w *recovery.Watch) error {
		process, err := worker.NewProcess(b, env.Config, env.Log) //nolint:contextcheck // its writers end with Close
		if err != nil {
			return err
		}
		defer process.Close()
		process.Discover()
		process.Verify(w.Unchanged)
		return groupsync.Run(ctx, env.Config, process)
	})
}
