package allinone_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// The disk of NATS is full in the middle of the work. When there is room again everything
// goes on by itself: nothing is lost or done twice, and no entry is blamed.
func TestAFullDiskOfNATSLosesNothing(t *testing.T) {
	t.Parallel()
	disk := bustest.SmallDisk(t, 64<<20)
	server, err := embedded.Start(embedded.Config{DataDir: disk.Dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	b := workertest.NewAt(t, server, "remove: disable", scimtest.Options{Latency: 100 * time.Millisecond})
	b.Config.Connections["wiki"].Target.Concurrency = 2
	b.Start(usersync.Run, groupsync.Run)
	publishCompany(b)
	b.Eventually("some are done", func() bool { return b.Provisioned(user) > 5 })
	disk.Fill(t)
	var refused *bus.RefusalError
	b.Eventually("NATS refuses writes", func() bool {
		return errors.As(b.Bus.Stores(t.Context(), provisioningv1.BucketTargets), &refused)
	})
	if b.Provisioned(user) == people {
		t.Fatal("everything was done before the disk was full")
	}
	disk.Free(t)
	wantCompany(t, b)
	wantUnblamed(t, b, 0)
}
