package directoryv1_test

import (
	"bytes"
	"testing"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

var id = []byte("0123456789abcdef")

func TestSubjectsParseBack(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, subject string
		want          directoryv1.Subject
	}{
		{
			"user entry",
			directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, "corp", id),
			directoryv1.Subject{Kind: directoryv1.Kind_KIND_USER, Source: "corp", ID: id, Chunk: -1},
		},
		{
			"group entry",
			directoryv1.EntrySubject(directoryv1.Kind_KIND_GROUP, "corp-2", id),
			directoryv1.Subject{Kind: directoryv1.Kind_KIND_GROUP, Source: "corp-2", ID: id, Chunk: -1},
		},
		{
			"members chunk",
			directoryv1.ChunkSubject("corp", id, 511),
			directoryv1.Subject{Kind: directoryv1.Kind_KIND_GROUP, Source: "corp", ID: id, Chunk: 511},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := directoryv1.ParseSubject(c.subject)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != c.want.Kind || got.Source != c.want.Source || got.Chunk != c.want.Chunk || !bytes.Equal(got.ID, c.want.ID) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestParseSubjectRefuses(t *testing.T) {
	t.Parallel()
	for _, subject := range []string{
		"", "directory.users.corp.fence", "directory.things.corp.entry.30313233343536373839616263646566",
		"directory.users.corp.entry.30", "directory.users.CORP.entry.30313233343536373839616263646566",
		"directory.users.corp.members.30313233343536373839616263646566.1",
		"directory.groups.corp.members.30313233343536373839616263646566.x",
		"directory.users.corp.entry.3031323334353637383961626364656G",
		"directory.users.corp.entry.3031323334353637383961626364656F",
	} {
		if got, err := directoryv1.ParseSubject(subject); err == nil {
			t.Errorf("ParseSubject(%q) = %+v, want an error", subject, got)
		}
	}
}

func FuzzParseSubject(f *testing.F) {
	f.Add(directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, "corp", id))
	f.Add(directoryv1.ChunkSubject("corp", id, 3))
	f.Add("directory..entry")
	f.Fuzz(func(t *testing.T, subject string) {
		s, err := directoryv1.ParseSubject(subject)
		if err != nil {
			return
		}
		again := directoryv1.EntrySubject(s.Kind, s.Source, s.ID)
		if s.Chunk >= 0 {
			again = directoryv1.ChunkSubject(s.Source, s.ID, s.Chunk)
		}
		if s.Chunk < 0 && again != subject {
			t.Errorf("%q parses and builds as %q", subject, again)
		}
		if _, err := directoryv1.ParseSubject(again); err != nil {
			t.Errorf("rebuilt %q does not parse: %v", again, err)
		}
	})
}
