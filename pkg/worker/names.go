package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// The attributes that hold what people call an entry, the best one first. Which of them
// are there depends on the mapping: nothing is read from the directory for it.
var nameAttributes = map[directoryv1.Kind][]string{
	directoryv1.Kind_KIND_USER:  {"displayName", "cn", "uid", "userPrincipalName", "sAMAccountName", "mail"},
	directoryv1.Kind_KIND_GROUP: {"displayName", "cn", "name", "sAMAccountName"},
}

// PublishedName is what people call an entry of a source, as its published state says:
// a display name, a login name, or its DN. It is empty for an entry that is gone or was
// never published. It is personal data: show it to operators, and never log it.
func PublishedName(ctx context.Context, b *bus.Bus, source string, kind directoryv1.Kind, id []byte) (string, error) {
	stored, err := b.Last(ctx, kind.Stream(), directoryv1.EntrySubject(kind, source, id))
	if errors.Is(err, bus.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the name of an entry: %w", err)
	}
	change := &directoryv1.Change{}
	if err := proto.Unmarshal(stored.Data, change); err != nil {
		return "", fmt.Errorf("decode change: %w", err)
	}
	return nameOfEntry(change), nil
}

func nameOfEntry(change *directoryv1.Change) string {
	attributes, dn := change.GetUser().GetAttributes(), change.GetUser().GetDn()
	if change.GetKind() == directoryv1.Kind_KIND_GROUP {
		attributes, dn = change.GetGroup().GetAttributes(), change.GetGroup().GetDn()
	}
	for _, name := range nameAttributes[change.GetKind()] {
		i := slices.IndexFunc(attributes, func(a *directoryv1.Attribute) bool { return strings.EqualFold(a.GetName(), name) })
		if i >= 0 && len(attributes[i].GetValues()) > 0 {
			return string(attributes[i].GetValues()[0])
		}
	}
	return dn
}
