// Package directoryv1 is the contract of what the directory holds: users,
// groups and the changes that the change-detector publishes about them, with
// the names of the streams and subjects on which they travel. Subjects hold
// entry ids in hex and configured names, never personal data.
package directoryv1

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Streams of desired state, one for each kind.
const (
	StreamUsers  = "USERS"
	StreamGroups = "GROUPS"
)

// Headers of a change beside the trace context.
const (
	// HeaderContentHash holds the hash of the change in hex; the detector
	// compares it instead of the content.
	HeaderContentHash = "Rollcall-Hash"
	// HeaderDetectedAt holds when the detector read the entry, RFC 3339 with
	// nanoseconds.
	HeaderDetectedAt = "Rollcall-Detected-At"
	// HeaderOp holds the change's operation, PRESENT or ABSENT.
	HeaderOp = "Rollcall-Op"
	// HeaderFields names what a PRESENT entry has, sorted and separated by commas:
	// its attributes, FieldEnabled for an enabled user, FieldMembers for a group
	// with members. The detector sees by it what would vanish.
	HeaderFields = "Rollcall-Fields"
	// HeaderApproval names the approval of what the change removes. What a person
	// approved in a source passes the guards of its connections.
	HeaderApproval = "Rollcall-Approval"
)

// Fields beside the attributes, whose names never begin with @.
const (
	FieldEnabled = "@enabled"
	FieldMembers = "@members"
)

// SchemaVersion is the version of Change that this code writes and reads.
const SchemaVersion = 1

// IDSize is the length of an entry id in bytes.
const IDSize = 16

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ValidName says whether a source or connection may have this name, which
// becomes a subject token.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// Token is the kind as it stands in subjects and keys: users or groups.
func (k Kind) Token() string {
	switch k {
	case Kind_KIND_USER:
		return "users"
	case Kind_KIND_GROUP:
		return "groups"
	default:
		return "unspecified"
	}
}

// Stream is the name of the stream that holds this kind's desired state.
func (k Kind) Stream() string {
	if k == Kind_KIND_GROUP {
		return StreamGroups
	}
	return StreamUsers
}

// KindOf is the kind that a subject token names; Kind_KIND_UNSPECIFIED for any other
// word.
func KindOf(token string) Kind {
	switch token {
	case "users":
		return Kind_KIND_USER
	case "groups":
		return Kind_KIND_GROUP
	default:
		return Kind_KIND_UNSPECIFIED
	}
}

// StreamSubjects are the subjects that the kind's stream takes.
func StreamSubjects(kind Kind) []string { return []string{"directory." + kind.Token() + ".>"} }

// EntrySubject is the subject of one entry's change:
// directory.<kind>.<source>.entry.<id>.
func EntrySubject(kind Kind, source string, id []byte) string {
	return "directory." + kind.Token() + "." + source + ".entry." + hex.EncodeToString(id)
}

// EntryFilter matches the changes of all entries of a source.
func EntryFilter(kind Kind, source string) string {
	return "directory." + kind.Token() + "." + source + ".entry.*"
}

// ChunkSubject is the subject of one members chunk of a group:
// directory.groups.<source>.members.<id>.<chunk>.
func ChunkSubject(source string, id []byte, chunk int) string {
	return "directory.groups." + source + ".members." + hex.EncodeToString(id) + "." + strconv.Itoa(chunk)
}

// ChunkFilter matches the members chunks of all groups of a source.
func ChunkFilter(source string) string { return "directory.groups." + source + ".members.*.*" }

// FenceSubject is the subject of the message that fences a detector's batches.
func FenceSubject(kind Kind, source string) string {
	return "directory." + kind.Token() + "." + source + ".fence"
}

// Subject is a parsed subject of the USERS or GROUPS stream.
type Subject struct {
	Kind   Kind
	Source string
	ID     []byte
	// Chunk is the number of the members chunk, -1 for an entry.
	Chunk int
}

// ParseSubject takes an entry or chunk subject apart.
func ParseSubject(subject string) (Subject, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 5 || tokens[0] != "directory" || !ValidName(tokens[2]) {
		return Subject{}, fmt.Errorf("parse subject %q: not of the form directory.<kind>.<source>.entry.<id>", subject)
	}
	s := Subject{Kind: KindOf(tokens[1]), Source: tokens[2], Chunk: -1}
	switch {
	case s.Kind == Kind_KIND_UNSPECIFIED:
		return Subject{}, fmt.Errorf("parse subject %q: unknown kind %q", subject, tokens[1])
	case tokens[3] == "entry" && len(tokens) == 5:
	case tokens[3] == "members" && len(tokens) == 6 && s.Kind == Kind_KIND_GROUP:
		chunk, err := strconv.ParseUint(tokens[5], 10, 16)
		if err != nil {
			return Subject{}, fmt.Errorf("parse subject %q: chunk number: %w", subject, err)
		}
		s.Chunk = int(chunk)
	default:
		return Subject{}, fmt.Errorf("parse subject %q: unknown form", subject)
	}
	id, err := ParseID(tokens[4])
	if err != nil {
		return Subject{}, fmt.Errorf("parse subject %q: %w", subject, err)
	}
	s.ID = id
	return s, nil
}

// ParseID reads an entry id from 32 lower-case hex digits.
func ParseID(text string) ([]byte, error) {
	id, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("entry id %q: %w", text, err)
	}
	if len(id) != IDSize || hex.EncodeToString(id) != text {
		return nil, fmt.Errorf("entry id %q: want %d lower-case hex digits", text, 2*IDSize)
	}
	return id, nil
}
