package conformance

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
)

// patience is longer than a minute, in which a census finds who was deleted where the
// server says nothing, and half of one, in which removals gather.
const patience = 2 * time.Minute

// run runs a detector until the test calls what it returns, or ends.
func run(t *testing.T, cfg *connection.Config, b *bus.Bus) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- detector.Run(ctx, cfg, b, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the detector ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// await asks again until the answer is yes; false when it takes too long.
func await(t *testing.T, ask func() bool) bool {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ask() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// awaitPass waits for the first full pass.
func awaitPass(t *testing.T, b *bus.Bus) status.Pass {
	t.Helper()
	return awaitPassAfter(t, b, status.Pass{}, func(status.Pass) bool { return true })
}

// awaitPassAfter waits for a later pass for which ok says yes.
func awaitPassAfter(t *testing.T, b *bus.Bus, after status.Pass, ok func(status.Pass) bool) status.Pass {
	t.Helper()
	var p status.Pass
	if !await(t, func() bool { p = lastPass(t, b); return p.At.After(after.At) && ok(p) }) {
		t.Fatalf("after %s the last pass is %+v", patience, p)
	}
	return p
}

// lastPass is the last full pass, or none.
func lastPass(t *testing.T, b *bus.Bus) status.Pass {
	t.Helper()
	p, err := status.LastPass(t.Context(), b, "corp")
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		t.Fatal(err)
	}
	return p
}

// published is what the streams hold as present, readable, by kind and id. How a
// group's members are spread over chunks depends on its history, who they are does
// not.
func published(t *testing.T, b *bus.Bus) map[string]string {
	t.Helper()
	members := chunks(t, b)
	out := map[string]string{}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		read(t, b, kind, directoryv1.EntryFilter(kind, "corp"), func(_ directoryv1.Subject, data []byte) {
			var c directoryv1.Change
			if err := proto.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			if c.GetOp() != directoryv1.Op_OP_PRESENT {
				return
			}
			id := hex.EncodeToString(c.GetEntryId())
			text := ""
			if m := c.GetGroup().GetMembers(); m != nil {
				m.ChunkCount, m.ChunkHashes = 0, nil
				slices.Sort(members[id])
				for _, member := range members[id] {
					text += "\nmember " + member
				}
			}
			out[kind.Token()+" "+id] = c.String() + text
		})
	}
	return out
}

// chunks are the members of each group, by id.
func chunks(t *testing.T, b *bus.Bus) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	read(t, b, directoryv1.Kind_KIND_GROUP, directoryv1.ChunkFilter("corp"), func(s directoryv1.Subject, data []byte) {
		var c directoryv1.MemberChunk
		if err := proto.Unmarshal(data, &c); err != nil {
			t.Fatal(err)
		}
		id := hex.EncodeToString(s.ID)
		for member := range slices.Chunk(c.GetMembers(), directoryv1.IDSize+1) {
			out[id] = append(out[id], hex.EncodeToString(member))
		}
	})
	return out
}

func read(t *testing.T, b *bus.Bus, kind directoryv1.Kind, filter string, each func(directoryv1.Subject, []byte)) {
	t.Helper()
	err := b.Read(t.Context(), kind.Stream(), bus.ReadOptions{Filters: []string{filter}}, func(s *bus.Stored) error {
		subject, err := directoryv1.ParseSubject(s.Subject)
		if err == nil {
			each(subject, s.Data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
