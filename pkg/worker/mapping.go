package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// unknownDelay is how long a change waits for an attribute that the detector has
// not read yet.
const unknownDelay = 5 * time.Second

// MappingError says what an expression's error means for the entry.
func MappingError(key string, err error) error {
	if errors.Is(err, mapping.ErrUnknown) {
		return Wait(unknownDelay, fmt.Errorf("%s: %w; the detector has not read it yet", key, err))
	}
	return Block(fmt.Sprintf("%s: %v", key, err))
}

// Why says in words why the directory has an entry no longer.
func Why(r directoryv1.Reason) string {
	switch r {
	case directoryv1.Reason_REASON_DELETED:
		return "deleted from the directory"
	case directoryv1.Reason_REASON_MOVED:
		return "moved out of the source's bases"
	case directoryv1.Reason_REASON_FILTER:
		return "no longer matches the source's filter"
	case directoryv1.Reason_REASON_GROUP:
		return "no longer in a scope group"
	case directoryv1.Reason_REASON_UNSPECIFIED:
	}
	return "absent from the directory"
}
