package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Mark says that one kind of a connection has to be compared with its target.
type Mark struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// Compared says that the comparison is over, and what it has found is being done.
	Compared bool `json:"compared,omitempty"`
}

func markKey(connection string, kind directoryv1.Kind) string {
	return connection + ".recovery." + kind.Token()
}

// Marked is the mark of one kind of a connection; nil where there is none.
func Marked(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind) (*Mark, error) {
	text, err := b.Text(ctx, provisioningv1.BucketTargets, markKey(connection, kind))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil //nolint:nilnil // none is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read whether %s has to be compared: %w", connection, err)
	}
	return decode(text)
}

func decode(text string) (*Mark, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // it is gone
	}
	m := &Mark{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, fmt.Errorf("decode a mark of recovery: %w", err)
	}
	return m, nil
}

// Put marks one kind of a connection.
func Put(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind, m Mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a mark of recovery: %w", err)
	}
	return b.PutText(ctx, provisioningv1.BucketTargets, markKey(connection, kind), string(data), 0)
}

// End takes the mark away.
func End(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind) error {
	return b.DropKey(ctx, provisioningv1.BucketTargets, markKey(connection, kind))
}

// Follow tells of every mark of a connection, and of nil where one is taken away, until
// ctx ends; caughtUp is called after those that were there.
func Follow(ctx context.Context, b *bus.Bus, connection string, caughtUp func(), each func(kind directoryv1.Kind, m *Mark)) error {
	prefix := connection + ".recovery."
	var failed error
	err := b.WatchText(ctx, provisioningv1.BucketTargets, prefix+"*", caughtUp, func(key, text string) {
		m, err := decode(text)
		if err != nil {
			failed = err
			return
		}
		for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
			if strings.TrimPrefix(key, prefix) == kind.Token() {
				each(kind, m)
			}
		}
	})
	return errors.Join(err, failed)
}

// markAll marks every connection that sends anything.
func (w *Watch) markAll(ctx context.Context, why string) error {
	m := Mark{Reason: why, Since: time.Now().UTC()}
	for name, c := range w.cfg.Connections {
		if c.DryRun {
			continue
		}
		kinds := []directoryv1.Kind{directoryv1.Kind_KIND_USER}
		if c.Groups != nil {
			kinds = append(kinds, directoryv1.Kind_KIND_GROUP)
		}
		for _, kind := range kinds {
			if err := Put(ctx, w.bus, name, kind, m); err != nil {
				return err
			}
		}
		w.log.WarnContext(ctx, "the target is compared with the directory, because links may be missing or old", "connection", name, "reason", why)
	}
	return nil
}
