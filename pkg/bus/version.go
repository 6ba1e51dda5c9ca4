package bus

import (
	"errors"
	"fmt"
	"slices"
)

// ErrTooOld means that the NATS server is older than MinVersion.
var ErrTooOld = errors.New("this NATS server may lose what it acknowledged")

// MinVersion is the oldest NATS server that is used. The file store of older ones
// compacts the blocks of a stream without syncing them, even where it syncs always, so
// that a power failure may lose acknowledged messages of streams that keep the last
// message of each subject, which is what Rollcall remembers everything in.
const MinVersion = "2.15.2"

// checkVersion refuses a server that is older than MinVersion, or does not say how old
// it is. A pre-release counts as the release.
func checkVersion(version string) error {
	have, ok := parseVersion(version)
	least, _ := parseVersion(MinVersion)
	if ok && slices.Compare(have[:], least[:]) >= 0 {
		return nil
	}
	return fmt.Errorf("nats.url: %w at a power failure: it is of version %q; upgrade every server to %s or later, or leave nats.url out to use the embedded one", ErrTooOld, version, MinVersion)
}

// parseVersion reads major.minor.patch; what follows does not count.
func parseVersion(text string) (v [3]int, ok bool) {
	n, err := fmt.Sscanf(text, "%d.%d.%d", &v[0], &v[1], &v[2])
	return v, err == nil && n == len(v)
}
