package ldapsource

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// An id that is read is the one that a search by it asserts.
func FuzzID(f *testing.F) {
	for _, encoding := range []string{"text", "bytes", "microsoft"} {
		f.Add(encoding, "objectGUID", []byte("\x40\xf6\xaf\x51\x97\x7b\x41\x10\x90\x23\xb9\xc8\xf7\xb2\xdf\x86"))
		f.Add(encoding, "nsUniqueId", []byte("51aff640-7b971041-9023b9c8-f7b2df86"))
		f.Add(encoding, "entryUUID", []byte("{51AFF640-7B97-1041-9023-B9C8F7B2DF86}"))
	}
	f.Fuzz(func(t *testing.T, encoding, attribute string, value []byte) {
		r, err := newIDReader(&connection.Source{ID: connection.IDAttribute{Attribute: attribute, Encoding: encoding}})
		if err != nil {
			return
		}
		id, err := r.decode(value)
		if err != nil {
			return
		}
		if id == (ID{}) {
			t.Fatalf("%s %q: the id of nobody", encoding, value)
		}
		asserted := []byte(r.encode(id))
		if encoding == "bytes" || encoding == "microsoft" {
			if asserted, err = hex.DecodeString(strings.ReplaceAll(string(asserted), `\`, "")); err != nil || !slices.Equal(asserted, value) {
				t.Errorf("%s %q: asserted as %q, %v", encoding, value, asserted, err)
			}
		}
		if again, err := r.decode(asserted); err != nil || again != id {
			t.Errorf("%s %q: %s and then %s, %v", encoding, value, id, again, err)
		}
	})
}

// What is read of a range is what a server wrote: the name is kept, and the next
// value lies behind the last one.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"member;range=0-1499", "member;range=1500-*", "Member;Range=0-*", "member", "member;range=", "member;range=0-", "a;binary;range=5-6", ";range=1-1", "member;range=0-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, description string) {
		s, ok := parseRange(description)
		switch {
		case !ok && s != (span{}):
			t.Errorf("%q is none and gives %+v", description, s)
		case ok && (!isRange(description) || !strings.HasPrefix(description, s.name) || s.first < 0):
			t.Errorf("%q gives %+v", description, s)
		case ok && s.next <= s.first && (s.next != -1 || !strings.HasSuffix(description, "*")):
			t.Errorf("%q gives %+v", description, s)
		}
	})
}

// A message of a sync session says that the refresh is over, or that entries are gone,
// only where its bytes do.
func FuzzSyncInfo(f *testing.F) {
	boolean := func(v bool) *ber.Packet {
		return ber.NewLDAPBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, v, "")
	}
	for tag := range ber.Tag(4) {
		p := ber.Encode(ber.ClassContext, ber.TypeConstructed, tag, nil, "")
		p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "cookie", ""))
		p.AppendChild(boolean(true))
		f.Add(p.Bytes())
		ids := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		ids.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, strings.Repeat("x", 16), ""))
		p.AppendChild(ids)
		f.Add(p.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		packet, err := ber.DecodePacketErr(data)
		if err != nil {
			return
		}
		info, err := ldap.NewControlSyncInfo(packet)
		if err != nil {
			return
		}
		var ev event
		ev.info(info)
		set := info.Value == ldap.SyncInfoSyncIdSet
		if ev.done && (set || info.Value == ldap.SyncInfoNewcookie) || len(ev.gone)+len(ev.present) > 0 && !set {
			t.Errorf("%v says %+v", info.Value, ev)
		}
		if set && (len(ev.gone) > 0 && !info.SyncIdSet.RefreshDeletes || len(ev.gone)+len(ev.present) != len(info.SyncIdSet.SyncUUIDs)) {
			t.Errorf("%+v says %+v", info.SyncIdSet, ev)
		}
	})
}

// A delta is taken for a change of members only where it holds nothing else.
func FuzzDirSyncDelta(f *testing.F) {
	f.Add("member;range=1-1", "instanceType")
	f.Add("member;range=0-0", "mail")
	f.Add("MEMBER", "member;range=0-1499")
	t := &dirsync{domain: &domain{source: &Source{
		cfg: &connection.Source{Groups: connection.GroupSource{Members: "member"}}, normal: []string{"dc=x"},
		id: idReader{attribute: objectGUID, decode: bytesID},
	}}}
	f.Fuzz(func(tt *testing.T, first, second string) {
		guid := &ldap.EntryAttribute{Name: "objectGUID", ByteValues: [][]byte{[]byte("0123456789abcdef")}}
		ev := t.read(&ldap.Entry{DN: "cn=g,dc=x", Attributes: []*ldap.EntryAttribute{guid, {Name: first, Values: []string{"v"}}, {Name: second, Values: []string{"v"}}}})
		harmless := func(name string) bool {
			return slices.Contains([]string{"objectguid", "instancetype", "member;range=1-1", "member;range=0-0"}, strings.ToLower(name))
		}
		if linked := len(ev.links) == 1; linked != (harmless(first) && harmless(second)) && ev.skipped == 0 && len(ev.left) == 0 {
			tt.Errorf("%q and %q: %+v", first, second, ev)
		}
	})
}
