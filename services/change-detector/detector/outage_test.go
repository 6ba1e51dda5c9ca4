package detector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// noticed is how soon people are told.
const noticed = 5 * time.Second

// awaitOutage waits until the record of the source says that it is not followed, for
// this reason and with this text.
func awaitOutage(t *testing.T, b *bus.Bus, reason status.OutageReason, text string) status.Pass {
	t.Helper()
	var p status.Pass
	await(t, func() string {
		var err error
		if p, err = status.LastPass(t.Context(), b, "corp"); err != nil {
			return err.Error()
		}
		if p.Outage != nil && p.Outage.Reason == reason && strings.Contains(p.Outage.Error, text) {
			return ""
		}
		return fmt.Sprintf("the outage is %+v, want %s with %q", p.Outage, reason, text)
	})
	return p
}

// awaitFollowed waits until the record of the source has a full read and no outage.
func awaitFollowed(t *testing.T, b *bus.Bus) status.Pass {
	t.Helper()
	return awaitPass(t, b, status.Pass{}, func(p status.Pass) bool { return p.Outage == nil })
}

// An outage is noted with its beginning, keeps that while errors change and detectors
// come and go, keeps what was read before, and ends with the next full read.
func TestOutageIsNotedUntilTheDirectoryIsReadAgain(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(5)})
	cfg, b := realConfig(t, srv), bustest.Start(t)
	stop := start(t, cfg, b)
	before := awaitFollowed(t, b)
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	down := awaitOutage(t, b, status.OutageUnreachable, "")
	if took := down.Outage.Since.Sub(stopped); took > noticed {
		t.Errorf("noted %s after the server stopped, want %s at most", took, noticed)
	}
	if !down.Outage.Since.After(before.At) || !down.At.Equal(before.At) || down.Users != before.Users {
		t.Errorf("%+v, want the pass of %s and an outage since then", down, before.At)
	}
	stop()
	start(t, cfg, b)
	if again := awaitOutage(t, b, status.OutageUnreachable, "connection refused"); !again.Outage.Since.Equal(down.Outage.Since) {
		t.Errorf("after a restart the outage is since %s, want %s", again.Outage.Since, down.Outage.Since)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := awaitFollowed(t, b); !after.At.After(before.At) {
		t.Errorf("the outage ended without a full read: %+v", after)
	}
}

// A wrong password at the first start is noted, neither it nor the account's name is
// written anywhere, and the right one ends the outage.
func TestWrongPasswordAtTheFirstStart(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(5)})
	password := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(password, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("not-this-one")
	cfg := realConfig(t, srv, [2]string{`bind_password: "`, `bind_password: "${file:` + password + "}\"}\n    # "})
	b := bustest.Start(t)
	log := &output{also: t.Output()}
	startLogging(t, cfg, b, log)
	p := awaitOutage(t, b, status.OutageCredentials, "check sources.corp.ldap.bind_dn and bind_password")
	for _, secret := range []string{"not-this-one", srv.ReaderDN} {
		if strings.Contains(p.Outage.Error, secret) || log.lacks(secret) == "" {
			t.Errorf("%q stands in the record or in the log: %s", secret, p.Outage.Error)
		}
	}
	if !p.At.IsZero() {
		t.Errorf("%+v, want no full read", p)
	}
	write(srv.ReaderPassword)
	awaitFollowed(t, b)
}
