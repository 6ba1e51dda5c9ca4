package ldapsource

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"
)

// track makes the follower ask for changes. It starts with the mark, so that what
// changes during the full read is asked for afterwards; nothing outlives the session.
func (f *follower) track(t tracker) {
	f.tracker = t
	f.read = func(ctx context.Context) error {
		if err := t.mark(ctx, f.conn); err != nil {
			return fmt.Errorf("mark where the directory is: %w", err)
		}
		if err := f.sweep(ctx); err != nil {
			return err
		}
		for i := range f.done {
			f.done[i] = true
		}
		f.schedulePoll()
		return f.scheduleCensus(ctx, f.sweptIn)
	}
	f.polling.do = f.poll
	f.counting.do = f.census
}

// poll asks for what changed.
func (f *follower) poll(ctx context.Context) error {
	err := f.tracker.changes(ctx, f.conn, func(ev event) error {
		ev.live = true
		return f.apply(ctx, ev)
	})
	if err == nil {
		err = f.resolve(ctx)
	}
	if err != nil {
		return fmt.Errorf("ask for changes: %w", err)
	}
	f.schedulePoll()
	return nil
}

func (f *follower) schedulePoll() {
	f.polling.at = time.Now().Add(orDefault(f.source.cfg.Detection.Interval, defaultInterval))
}

// fingerprint tells one state of an entry from another: a hash of its Version above
// one of all the rest.
type fingerprint uint64

// seed is that of all fingerprints; they do not outlive the process.
var seed = maphash.MakeSeed()

func fingerprintOf(e *Entry) fingerprint {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(part []byte) {
		_, _ = h.Write(part) // never fails
		_ = h.WriteByte(0)
	}
	write([]byte(e.DN))
	for _, a := range e.Attributes {
		write([]byte(a.GetName()))
		for _, v := range a.GetValues() {
			write(v)
		}
		_ = h.WriteByte(1)
	}
	const low = 1<<32 - 1
	return fingerprint(maphash.String(seed, e.Version)&^low | h.Sum64()&low)
}

// linked stands for a group whose members were edited one by one: who sends those
// sends every change.
const linked fingerprint = 0

// of reports whether the state has this Version.
func (f fingerprint) of(version string) bool {
	return f == linked || f>>32 == fingerprint(maphash.String(seed, version)>>32)
}
