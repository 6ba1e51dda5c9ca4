package usersync_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// A change that this worker cannot read waits visibly: with a reason in the link, and in
// the backlog.
func TestChangeThatCannotBeReadIsAProblemAndInTheBacklog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*directoryv1.Change)
		want  string
	}{
		"a newer schema version":        {func(c *directoryv1.Change) { c.SchemaVersion++ }, "schema version"},
		"an attribute set that is lost": {func(c *directoryv1.Change) { c.AttributeSet = "lost" }, "attribute set lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{})
			b.Start(usersync.Run)
			change := workertest.User(1, "ann", "", "")
			change.SchemaVersion, change.AttributeSet = directoryv1.SchemaVersion, b.Config.AttributeSet("corp").ID()
			c.spoil(change)
			data, err := proto.Marshal(change)
			if err != nil {
				t.Fatal(err)
			}
			m := bus.Message{
				Subject: directoryv1.EntrySubject(user, "corp", workertest.ID(1)), Data: data,
				Header: map[string]string{directoryv1.HeaderOp: "OP_PRESENT"},
			}
			if _, err := b.Bus.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			b.Eventually("the reason and the backlog", func() bool {
				s, err := status.Read(t.Context(), b.Config, b.Bus)
				if err != nil {
					t.Fatal(err)
				}
				one := s.Connections[0]
				return one.Users.Backlog == 1 && one.Users.Retrying == 1 && len(one.Problems) == 1 && strings.Contains(one.Problems[0].Message, c.want)
			})
			count, oldest, err := b.Bus.Postponed(t.Context(), user, "wiki")
			if err != nil || count > 0 && oldest.IsZero() {
				t.Errorf("%d postponed since %s: %v", count, oldest, err)
			}
			readable := b.Publish(workertest.User(1, "ann", "", "")) // takes its place
			b.Until(user, 1, workertest.Applied(readable))
		})
	}
}
