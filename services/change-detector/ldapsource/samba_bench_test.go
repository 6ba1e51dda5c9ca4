//go:build directories

package ldapsource

import (
	"fmt"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

// BenchmarkSamba_poll is what asking a domain controller for changes costs: when
// nothing was written, and when one entry of a hundred was. A change is published
// within detection.interval and such a poll.
func BenchmarkSamba_poll(b *testing.B) {
	srv := samba.Start(b, samba.Options{LDIF: otherUnit + adUsers(100)})
	for _, mode := range []Mode{ModeDirSync, ModeUSN} {
		s := adSource(b, srv, admin.by(mode))
		server, err := s.Probe(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s.session.Store(server)
		c, err := s.join(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer c.close()
		if err := server.tracker.mark(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		poll := func(b *testing.B, want int) {
			b.Helper()
			got := 0
			err := server.tracker.changes(b.Context(), c, func(ev event) error {
				got += len(ev.changed)
				if ev.put != nil {
					got++
				}
				return nil
			})
			if err != nil || got != want {
				b.Fatalf("%d changes, %v; want %d", got, err, want)
			}
		}
		b.Run(string(mode)+"/idle", func(b *testing.B) {
			for b.Loop() {
				poll(b, 0)
			}
		})
		b.Run(string(mode)+"/one change", func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				srv.LDIF(b, fmt.Sprintf("dn: CN=u1,%s\nchangetype: modify\nreplace: sn\nsn: %s %d\n", adPeople, mode, n))
				b.StartTimer()
				poll(b, 1)
			}
		})
	}
}
