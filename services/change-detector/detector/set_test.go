package detector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	oneMapping = "{userName: user.uid}"
	mailToo    = "{userName: user.uid, 'emails[type eq \"work\"].value': user.mail}"
	secondOne  = `groups: {name: group.cn}
  chat:
    source: corp
    target: {url: "http://127.0.0.1:2/scim/v2", insecure: true}
    users: {attributes: {userName: user.uid}}`
)

// generationOf is the hash of a connection's current configuration; empty before
// the first.
func generationOf(t *testing.T, b *bus.Bus, connection string) string {
	t.Helper()
	g, err := worker.CurrentGeneration(t.Context(), b, connection)
	if err != nil {
		return ""
	}
	return g.Hash
}

func awaitGeneration(t *testing.T, b *bus.Bus, cfg *connection.Config, connection string) {
	t.Helper()
	await(t, func() string {
		if got := generationOf(t, b, connection); got != cfg.Hash(connection) {
			return fmt.Sprintf("the generation of %s is %q, want %q", connection, got, cfg.Hash(connection))
		}
		return ""
	})
}

// A grown attribute set is published whole before a connection that needs it
// advances; one that does not need it advances at once. A smaller need changes
// nothing.
func TestGrownAttributeSetIsPublishedFirst(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(20)})
	b := bustest.Start(t)
	small := realConfig(t, srv, [2]string{"groups: {name: group.cn}", secondOne})
	stop := start(t, small, b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	awaitGeneration(t, b, small, "wiki")
	awaitGeneration(t, b, small, "chat")
	stop()

	grown := realConfig(t, srv, [2]string{"groups: {name: group.cn}", secondOne}, [2]string{oneMapping, mailToo}, [2]string{"2/scim/v2", "2/scim"})
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	stop = start(t, grown, b)
	awaitGeneration(t, b, grown, "chat")
	if got := generationOf(t, b, "wiki"); got != small.Hash("wiki") {
		t.Errorf("the generation of wiki is %s before anything of what it needs is published", got)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := awaitPass(t, b, first, anyPass)
	if second.Published != 22 {
		t.Errorf("%+v, want every entry published once", second)
	}
	awaitGeneration(t, b, grown, "wiki")
	stop()

	stop = start(t, small, b)
	third := awaitPass(t, b, second, anyPass)
	awaitGeneration(t, b, small, "wiki")
	if third.Published != 0 {
		t.Errorf("%+v, want a smaller need to change nothing", third)
	}
	stop()
}

// Nine people are deleted one by one: five go at once and the others together.
func TestBurstInTheDirectoryGathers(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(100)})
	b := bustest.Start(t)
	start(t, realConfig(t, srv), b)
	awaitPass(t, b, status.Pass{}, anyPass)
	var ldif strings.Builder
	for n := range 9 {
		fmt.Fprintf(&ldif, "dn: uid=u%d,ou=people,dc=example,dc=com\nchangetype: delete\n\n", n)
	}
	srv.LDIF(t, ldif.String())
	const want = "4 of 95 users would be removed, after 5 in the last 24h0m0s"
	await(t, func() string {
		held := list(t, b)
		if len(held) != 4 || !strings.HasPrefix(held[0].GetReason(), want) {
			return fmt.Sprintf("%d are held, want 4 because of %q: %v", len(held), want, held)
		}
		return ""
	})
	present := 0
	for subject, header := range readHeaders(t, b) {
		if strings.HasPrefix(subject, "directory.users.") && header[directoryv1.HeaderOp] == directoryv1.Op_OP_PRESENT.String() {
			present++
		}
	}
	if present != 95 {
		t.Errorf("%d users are published, want 95", present)
	}
}
