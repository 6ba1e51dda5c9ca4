package provisioningv1_test

import (
	"bytes"
	"testing"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

var id = []byte("0123456789abcdef")

func TestRequestSubjectParsesBack(t *testing.T) {
	t.Parallel()
	kind, connection, got, err := provisioningv1.ParseRequestSubject(provisioningv1.RequestSubject(directoryv1.Kind_KIND_GROUP, "wiki", id))
	if err != nil || kind != directoryv1.Kind_KIND_GROUP || connection != "wiki" || !bytes.Equal(got, id) {
		t.Errorf("got %v %q %x %v", kind, connection, got, err)
	}
}

func TestLinkKeyParsesBack(t *testing.T) {
	t.Parallel()
	connection, kind, got, err := provisioningv1.ParseLinkKey(provisioningv1.LinkKey("wiki", directoryv1.Kind_KIND_USER, id))
	if err != nil || kind != directoryv1.Kind_KIND_USER || connection != "wiki" || !bytes.Equal(got, id) {
		t.Errorf("got %q %v %x %v", connection, kind, got, err)
	}
}

func TestParseLinkKeyRefusesOtherKeysOfTheBucket(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		provisioningv1.OwnershipKey("wiki", directoryv1.Kind_KIND_USER, "42"),
		provisioningv1.MembersKey("wiki", id, 0),
		"wiki.users", "wiki.people." + "30313233343536373839616263646566", "",
	} {
		if _, _, _, err := provisioningv1.ParseLinkKey(key); err == nil {
			t.Errorf("ParseLinkKey(%q) succeeded", key)
		}
	}
}

func FuzzParseRequestSubject(f *testing.F) {
	f.Add(provisioningv1.RequestSubject(directoryv1.Kind_KIND_USER, "wiki", id))
	f.Fuzz(func(t *testing.T, subject string) {
		kind, connection, got, err := provisioningv1.ParseRequestSubject(subject)
		if err != nil {
			return
		}
		if again := provisioningv1.RequestSubject(kind, connection, got); again != subject {
			t.Errorf("%q parses and builds as %q", subject, again)
		}
	})
}
