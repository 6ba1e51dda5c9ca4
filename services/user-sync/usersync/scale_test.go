package usersync_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// A replica that ends finishes what it has begun and hands back the rest: nothing is
// created twice, and nobody waits until its messages are taken for lost.
func TestReplicaThatEndsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const users = 120
	b := workertest.New(t, "", scimtest.Options{Latency: 100 * time.Millisecond})
	stop := b.Start(usersync.Run)
	for n := range users {
		b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "", ""))
	}
	b.Eventually("some users are created", func() bool { return b.Target.Count(scim.KindUser) > 8 })
	b.Start(usersync.Run)
	began := time.Now()
	stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the replica took %v to end", took)
	}
	b.Eventually("everybody is there", func() bool { return b.Provisioned(user) == users })
	if took := time.Since(began); took > 20*time.Second { // else they waited for the server
		t.Errorf("the others took %v", took)
	}
	if posts := b.Target.Counts()["POST /Users"]; posts != users {
		t.Errorf("%d creations of %d users", posts, users)
	}
}
