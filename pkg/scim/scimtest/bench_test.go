package scimtest_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func newClient(tb testing.TB, s *scimtest.Server) *scim.Client {
	tb.Helper()
	client, err := scim.New(scim.Config{URL: s.URL()})
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

func BenchmarkCreate(b *testing.B) {
	client := newClient(b, scimtest.NewServer(b, scimtest.Options{LogSize: 1000}))
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			values := scim.Values{
				"userName": "user" + strconv.FormatInt(n.Add(1), 10), "name.givenName": "Ada", "name.familyName": "Lovelace",
				`emails[type eq "work"].value`: "ada@example.com", "active": true,
			}
			body, err := values.Body(scim.KindUser)
			if err != nil {
				b.Error(err)
			}
			if _, err := client.Create(b.Context(), scim.KindUser, body); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkMemberOfLargeGroup changes one member of a group that has 100,000.
func BenchmarkMemberOfLargeGroup(b *testing.B) {
	server := scimtest.NewServer(b, scimtest.Options{LogSize: 1000})
	client := newClient(b, server)
	members := make([]any, 100_000)
	for i := range members {
		members[i] = map[string]any{"value": server.Seed(scim.KindUser, map[string]any{"userName": strconv.Itoa(i)})}
	}
	group := server.Seed(scim.KindGroup, map[string]any{"displayName": "all", "members": members})
	one := server.Seed(scim.KindUser, map[string]any{"userName": "one"})
	b.ResetTimer()
	for i := range b.N {
		op := scim.AddMembers([]string{one})
		if i%2 == 1 {
			op = scim.RemoveMember(one)
		}
		if _, err := client.Patch(b.Context(), scim.KindGroup, group, []scim.Operation{op}); err != nil {
			b.Fatal(err)
		}
	}
}
