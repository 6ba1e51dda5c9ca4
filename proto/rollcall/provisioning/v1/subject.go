// Package provisioningv1 is the contract of what the workers remember and
// report: links, outcomes and requests, with the names of their streams,
// buckets, subjects and keys. Keys hold entry ids and configured names, never
// personal data.
package provisioningv1

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Streams of the workers.
const (
	// StreamRequests holds entries to look at again.
	StreamRequests = "REQUESTS"
	// StreamOutcomes is the audit log.
	StreamOutcomes = "OUTCOMES"
)

// Buckets.
const (
	// BucketLinks holds links, ownership and applied members.
	BucketLinks = "links"
	// BucketSources holds leases, attribute sets and the last pass of each source.
	BucketSources = "sources"
	// BucketTargets holds the state of each connection's target.
	BucketTargets = "targets"
)

// RequestSubject is the subject of a request to look at an entry again:
// requests.<kind>.<connection>.<id>.
func RequestSubject(kind directoryv1.Kind, connection string, id []byte) string {
	return "requests." + kind.Token() + "." + connection + "." + hex.EncodeToString(id)
}

// RequestFilter matches the requests of a connection and kind.
func RequestFilter(kind directoryv1.Kind, connection string) string {
	return "requests." + kind.Token() + "." + connection + ".*"
}

// LaterSubject is the subject of a schedule that publishes a request:
// later.<kind>.<connection>.<id>.<reason>.
func LaterSubject(kind directoryv1.Kind, connection string, id []byte, reason string) string {
	return "later." + kind.Token() + "." + connection + "." + hex.EncodeToString(id) + "." + reason
}

// ReasonLater is the reason of a request for an entry that was postponed.
const ReasonLater = "later"

// PostponedFilter matches the schedules of a connection's postponed entries of a kind.
func PostponedFilter(kind directoryv1.Kind, connection string) string {
	return "later." + kind.Token() + "." + connection + ".*." + ReasonLater
}

// ParseRequestSubject takes a request's subject apart.
func ParseRequestSubject(subject string) (kind directoryv1.Kind, connection string, id []byte, err error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || tokens[0] != "requests" || !directoryv1.ValidName(tokens[2]) {
		return 0, "", nil, fmt.Errorf("parse subject %q: not of the form requests.<kind>.<connection>.<id>", subject)
	}
	kind = directoryv1.KindOf(tokens[1])
	if kind == directoryv1.Kind_KIND_UNSPECIFIED {
		return 0, "", nil, fmt.Errorf("parse subject %q: unknown kind %q", subject, tokens[1])
	}
	id, err = directoryv1.ParseID(tokens[3])
	return kind, tokens[2], id, err
}

// OutcomeSubject is the subject of an outcome: outcomes.<kind>.<connection>.<id>.
func OutcomeSubject(kind directoryv1.Kind, connection string, id []byte) string {
	return "outcomes." + kind.Token() + "." + connection + "." + hex.EncodeToString(id)
}

// LinkKey is the key of an entry's link: <connection>.<kind>.<id>.
func LinkKey(connection string, kind directoryv1.Kind, id []byte) string {
	return connection + "." + kind.Token() + "." + hex.EncodeToString(id)
}

// LinkFilter matches the links of a connection and kind.
func LinkFilter(connection string, kind directoryv1.Kind) string {
	return connection + "." + kind.Token() + ".*"
}

// OwnershipKey is the key that makes a resource belong to one entry:
// <connection>.<kind>.resource.<hash of the resource id>.
func OwnershipKey(connection string, kind directoryv1.Kind, resourceID string) string {
	sum := sha256.Sum256([]byte(resourceID))
	return connection + "." + kind.Token() + ".resource." + hex.EncodeToString(sum[:16])
}

// MembersKey is the key of one chunk of a group's applied members:
// <connection>.groups.<id>.members.<chunk>.
func MembersKey(connection string, id []byte, chunk int) string {
	return LinkKey(connection, directoryv1.Kind_KIND_GROUP, id) + ".members." + strconv.Itoa(chunk)
}

// ParseLinkKey takes a link's key apart; an error for every other key of the
// bucket.
func ParseLinkKey(key string) (connection string, kind directoryv1.Kind, id []byte, err error) {
	tokens := strings.Split(key, ".")
	if len(tokens) != 3 || !directoryv1.ValidName(tokens[0]) || directoryv1.KindOf(tokens[1]) == directoryv1.Kind_KIND_UNSPECIFIED {
		return "", 0, nil, fmt.Errorf("parse link key %q: not of the form <connection>.<kind>.<id>", key)
	}
	id, err = directoryv1.ParseID(tokens[2])
	return tokens[0], directoryv1.KindOf(tokens[1]), id, err
}

// BlockedKey is the key of the entries that wait for an entry to give its resource
// up: <connection>.<kind>.<id>.blocked.
func BlockedKey(connection string, kind directoryv1.Kind, id []byte) string {
	return LinkKey(connection, kind, id) + ".blocked"
}

// LeaseKey is the key of who watches a source: <source>.lease.
func LeaseKey(source string) string { return source + ".lease" }

// PassKey is the key of the last full read of a source: <source>.pass.
func PassKey(source string) string { return source + ".pass" }

// HeldKey is the key of an entry's held removals, in the bucket of the sources or
// of the targets: <source or connection>.held.<kind>.<id>.
func HeldKey(name string, kind directoryv1.Kind, id []byte) string {
	return name + ".held." + kind.Token() + "." + hex.EncodeToString(id)
}

// HeldFilter matches everything that is held of a source or connection.
func HeldFilter(name string) string { return name + ".held.*.*" }

// ParseHeldKey takes the key of held removals apart.
func ParseHeldKey(key string) (name string, kind directoryv1.Kind, id []byte, err error) {
	tokens := strings.Split(key, ".")
	if len(tokens) != 4 || tokens[1] != "held" || !directoryv1.ValidName(tokens[0]) || directoryv1.KindOf(tokens[2]) == directoryv1.Kind_KIND_UNSPECIFIED {
		return "", 0, nil, fmt.Errorf("parse key %q: not of the form <name>.held.<kind>.<id>", key)
	}
	id, err = directoryv1.ParseID(tokens[3])
	return tokens[0], directoryv1.KindOf(tokens[2]), id, err
}

// WindowKey is the key of the removals that were counted of a source or
// connection: <source or connection>.guard.
func WindowKey(name string) string { return name + ".guard" }

// PauseKey is the key of a connection's pause: <connection>.pause.
func PauseKey(connection string) string { return connection + ".pause" }

// CanaryKey is the key of what is known of a target's removal of members:
// <connection>.canary.
func CanaryKey(connection string) string { return connection + ".canary" }

// ResourceHash is the short hash of a resource id that applied members keep:
// the first 8 bytes of its SHA-256.
func ResourceHash(resourceID string) []byte {
	sum := sha256.Sum256([]byte(resourceID))
	return sum[:8]
}
