package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestMain(m *testing.M) {
	// a server that cannot store a batch leaves this behind
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop"))
}

const users = directoryv1.Kind_KIND_USER

func entry(n int) []byte { return fmt.Appendf(nil, "%016d", n) }

func subject(n int) string { return directoryv1.EntrySubject(users, "corp", entry(n)) }

func TestSetupIsIdempotent(t *testing.T) { onBoth(t, testSetupIsIdempotent) }

func testSetupIsIdempotent(t *testing.T, b *bus.Bus) {
	t.Helper()
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReadyNamesTheCure(t *testing.T) {
	t.Parallel()
	b := bustest.Connect(t, bustest.Server(t))
	if err := b.Ready(t.Context()); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestPublishComparesAndSets(t *testing.T) { onBoth(t, testPublishComparesAndSets) }

func testPublishComparesAndSets(t *testing.T, b *bus.Bus) {
	t.Helper()
	first, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a"), Expect: new(uint64(0))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("b"), Expect: new(uint64(0))}); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("c"), Expect: &first}); err != nil {
		t.Error(err)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) { onBoth(t, testBatchIsAllOrNothing) }

func testBatchIsAllOrNothing(t *testing.T, b *bus.Bus) {
	t.Helper()
	_, err := b.PublishBatch(t.Context(), []bus.Message{
		{Subject: subject(1), Data: []byte("a"), Expect: new(uint64(0))},
		{Subject: subject(2), Data: []byte("b"), Expect: new(uint64(99))},
	})
	if !errors.Is(err, bus.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
	if _, err := b.Last(t.Context(), directoryv1.StreamUsers, subject(1)); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("the first message of a refused batch was stored: %v", err)
	}
}

// The server has a second code for a conflict (10164), which comes from replicated
// streams and for a subject that is written twice at once.
func TestConflictWithoutSequenceIsAConflict(t *testing.T) {
	onBoth(t, testConflictWithoutSequenceIsAConflict)
}

func testConflictWithoutSequenceIsAConflict(t *testing.T, b *bus.Bus) {
	t.Helper()
	twice := []bus.Message{
		{Subject: subject(1), Data: []byte("a")},
		{Subject: subject(1), Data: []byte("b"), Expect: new(uint64(0))},
	}
	_, err := b.PublishBatch(t.Context(), twice)
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant {
		t.Fatalf("got %v, want the server's code %d", err, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
	}
	if !errors.Is(err, bus.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestFenceKeepsAStaleDetectorOut(t *testing.T) { onBoth(t, testFenceKeepsAStaleDetectorOut) }

func testFenceKeepsAStaleDetectorOut(t *testing.T, b *bus.Bus) {
	t.Helper()
	old, err := b.TakeFence(t.Context(), users, "corp", "old")
	if err != nil {
		t.Fatal(err)
	}
	seqs, err := old.Publish(t.Context(), []bus.Message{{Subject: subject(1), Data: []byte("a")}, {Subject: subject(2), Data: []byte("b")}})
	if err != nil || len(seqs) != 2 || seqs[1] != seqs[0]+1 {
		t.Fatalf("got %v, %v", seqs, err)
	}
	last, err := b.Last(t.Context(), directoryv1.StreamUsers, subject(2))
	if err != nil || last.Sequence != seqs[1] {
		t.Fatalf("sequence of the second message: got %v, %v; want %d", last, err, seqs[1])
	}
	fresh, err := b.TakeFence(t.Context(), users, "corp", "fresh")
	if err != nil {
		t.Fatal(err)
	}
	lone := []bus.Message{{Subject: subject(3), Data: []byte("c")}}
	two := []bus.Message{{Subject: subject(4), Data: []byte("d")}, {Subject: subject(3), Data: []byte("c"), Expect: new(uint64(7777))}}
	for _, messages := range [][]bus.Message{lone, two} {
		if _, err := old.Publish(t.Context(), messages); !errors.Is(err, bus.ErrFenced) {
			t.Errorf("stale detector, %d messages: got %v, want ErrFenced", len(messages), err)
		}
	}
	if _, err := fresh.Publish(t.Context(), two); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("changed entry: got %v, want ErrConflict", err)
	}
	if seqs, err := fresh.Publish(t.Context(), lone); err != nil || len(seqs) != 1 {
		t.Errorf("publish after a refused batch: %v, %v", seqs, err)
	}
}

// A lone message of which no answer came may be stored late: whatever is published
// next must not be overwritten by it.
func TestFenceIsRenewedAfterALoneMessageWithoutAnswer(t *testing.T) {
	onBoth(t, testFenceIsRenewedAfterALoneMessageWithoutAnswer)
}

func testFenceIsRenewedAfterALoneMessageWithoutAnswer(t *testing.T, b *bus.Bus) {
	t.Helper()
	fence, err := b.TakeFence(t.Context(), users, "corp", "one")
	if err != nil {
		t.Fatal(err)
	}
	before, err := b.Last(t.Context(), directoryv1.StreamUsers, directoryv1.FenceSubject(users, "corp"))
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fence.Publish(ended, []bus.Message{{Subject: subject(1), Data: []byte("unknown")}}); err == nil {
		t.Fatal("published though nobody waited for the answer")
	}
	if _, err := fence.Publish(t.Context(), []bus.Message{{Subject: subject(1), Data: []byte("newest")}}); err != nil {
		t.Fatalf("publish after it: %v", err)
	}
	after, err := b.Last(t.Context(), directoryv1.StreamUsers, directoryv1.FenceSubject(users, "corp"))
	if err != nil {
		t.Fatal(err)
	}
	if after.Sequence == before.Sequence {
		t.Error("the fence is as before: what was sent without an answer could still be stored")
	}
	last, err := b.Last(t.Context(), directoryv1.StreamUsers, subject(1))
	if err != nil || string(last.Data) != "newest" {
		t.Errorf("got %v, %v", last, err)
	}
}

// A batch of which no answer came may be stored late, too: a lone message that is
// published next does not keep it out by itself.
func TestFenceIsRenewedAfterABatchWithoutAnswer(t *testing.T) {
	onBoth(t, testFenceIsRenewedAfterABatchWithoutAnswer)
}

func testFenceIsRenewedAfterABatchWithoutAnswer(t *testing.T, b *bus.Bus) {
	t.Helper()
	fence, err := b.TakeFence(t.Context(), users, "corp", "one")
	if err != nil {
		t.Fatal(err)
	}
	before, err := b.Last(t.Context(), directoryv1.StreamUsers, directoryv1.FenceSubject(users, "corp"))
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	batch := []bus.Message{{Subject: subject(1), Data: []byte("unknown")}, {Subject: subject(2), Data: []byte("unknown")}}
	if _, err := fence.Publish(ended, batch); err == nil {
		t.Fatal("published though nobody waited for the answer")
	}
	if _, err := fence.Publish(t.Context(), []bus.Message{{Subject: subject(3), Data: []byte("newest")}}); err != nil {
		t.Fatalf("publish after it: %v", err)
	}
	// what the server would do if the batch came only now
	late := []bus.Message{{Subject: directoryv1.FenceSubject(users, "corp"), Expect: &before.Sequence}, batch[0], batch[1]}
	if _, err := b.PublishBatch(t.Context(), late); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("the batch that came late: got %v, want ErrConflict", err)
	}
}

func TestReadDeliversTheLastOfEachSubjectAndFollows(t *testing.T) {
	onBoth(t, testReadDeliversTheLastOfEachSubjectAndFollows)
}

func testReadDeliversTheLastOfEachSubjectAndFollows(t *testing.T, b *bus.Bus) {
	t.Helper()
	for _, data := range []string{"old", "new"} {
		if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	caughtUp := make(chan struct{})
	got := make(chan string, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.Read(ctx, directoryv1.StreamUsers, bus.ReadOptions{
			Filters: []string{directoryv1.EntryFilter(users, "corp")}, Follow: true, CaughtUp: func() { close(caughtUp) },
		}, func(s *bus.Stored) error { got <- string(s.Data); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read ended with %v", err)
		}
	})
	<-caughtUp
	if first := <-got; first != "new" {
		t.Errorf("got %q, want new", first)
	}
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(2), Data: []byte("later")}); err != nil {
		t.Fatal(err)
	}
	if next := <-got; next != "later" {
		t.Errorf("got %q, want later", next)
	}
	cancel()
	wg.Wait()
}

// Many short reads do not add up on the server.
func TestReadLeavesNoConsumerBehind(t *testing.T) { onBoth(t, testReadLeavesNoConsumerBehind) }

func testReadLeavesNoConsumerBehind(t *testing.T, b *bus.Bus) {
	t.Helper()
	filters := []string{directoryv1.EntryFilter(users, "corp")}
	for range 20 {
		if err := b.Read(t.Context(), directoryv1.StreamUsers, bus.ReadOptions{Filters: filters}, func(*bus.Stored) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	left, err := b.Consumers(t.Context(), directoryv1.StreamUsers)
	if err != nil || len(left) != 0 {
		t.Errorf("%d consumers are left: %v", len(left), err)
	}
}

func TestReadOfNothingReturns(t *testing.T) { onBoth(t, testReadOfNothingReturns) }

func testReadOfNothingReturns(t *testing.T, b *bus.Bus) {
	t.Helper()
	err := b.Read(t.Context(), directoryv1.StreamUsers, bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(users, "none")}},
		func(*bus.Stored) error { return errors.New("delivered something") })
	if err != nil {
		t.Error(err)
	}
}

// What is purged while it is read is not waited for, with and without Follow.
func TestReadDoesNotWaitForWhatWasPurged(t *testing.T) {
	t.Parallel()
	for _, follow := range []bool{false, true} {
		onBothAs(t, fmt.Sprintf("follow=%t", follow), func(t *testing.T, b *bus.Bus) {
			t.Helper()
			for i := range 3000 { // more than the reader asks for at once
				if err := b.PutText(t.Context(), "links", fmt.Sprintf("wiki.users.%032x", i), "x", 0); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 75*time.Second)
			defer cancel()
			n, caughtUp := 0, false
			opts := bus.ReadOptions{Filters: []string{"$KV.links.wiki.users.*"}, Follow: follow, CaughtUp: func() {
				if caughtUp = true; follow {
					cancel()
				}
			}}
			err := b.Read(ctx, "KV_links", opts, func(*bus.Stored) error {
				if n++; n == 10 {
					return b.Purge(ctx, "KV_links", "$KV.links.wiki.>")
				}
				return nil
			})
			if !caughtUp || err != nil && !(follow && errors.Is(err, context.Canceled)) {
				t.Errorf("read %d messages, caught up: %t, error: %v", n, caughtUp, err)
			}
		})
	}
}

// consume runs a consumer until the test ends the context and returns a channel
// of verdicts.
func consume(t *testing.T, b *bus.Bus, stream, filter string, handle bus.Handler) chan bus.Verdict {
	t.Helper()
	spec := bus.ConsumerSpec{Stream: stream, Name: "users-wiki", Filter: filter, Window: 16}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	verdicts := make(chan bus.Verdict, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.Consume(ctx, stream, "users-wiki", bus.ConsumeOptions{
			Connection: "wiki", Concurrency: 4, Settled: func(_ *bus.Delivery, v bus.Verdict, _ error) { verdicts <- v },
		}, handle)
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return verdicts
}

func TestVerdictsDecideWhatHappens(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		first error
		want  []bus.Verdict
		calls int32
	}{
		{"nil acknowledges", nil, []bus.Verdict{bus.Acked}, 1},
		{"later comes again", bus.Later(time.Millisecond, errors.New("wait")), []bus.Verdict{bus.Delayed, bus.Acked}, 2},
		{"long later comes as a request", bus.Later(longDelay, errors.New("wait")), []bus.Verdict{bus.Delayed}, 1},
		{"park terminates", bus.Park(errors.New("refused")), []bus.Verdict{bus.Parked}, 1},
		{"hold acknowledges", bus.Hold(errors.New("asks")), []bus.Verdict{bus.Held}, 1},
		{"an error comes again", errors.New("odd"), []bus.Verdict{bus.Retry, bus.Acked}, 2},
	}
	for _, c := range cases {
		onBothAs(t, c.name, func(t *testing.T, b *bus.Bus) {
			t.Helper()
			var calls atomic.Int32
			verdicts := consume(t, b, directoryv1.StreamUsers, directoryv1.EntryFilter(users, "corp"), func(context.Context, *bus.Delivery) error {
				if calls.Add(1) == 1 {
					return c.first
				}
				return nil
			})
			if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				if got := <-verdicts; got != want {
					t.Errorf("verdict %d: got %s, want %s", i, got, want)
				}
			}
			backlog, err := b.Backlog(t.Context(), directoryv1.StreamUsers, "users-wiki")
			if err != nil || backlog.Waiting != 0 {
				t.Errorf("backlog: %+v, %v", backlog, err)
			}
			if got := calls.Load(); got != c.calls {
				t.Errorf("handled %d times, want %d", got, c.calls)
			}
		})
	}
}

const longDelay = 6 * time.Second

// A delay that is over already, such as one until a time in the past, is none.
func TestNegativeDelayIsNone(t *testing.T) { onBoth(t, testNegativeDelayIsNone) }

func testNegativeDelayIsNone(t *testing.T, b *bus.Bus) {
	t.Helper()
	var n atomic.Int32
	verdicts := consume(t, b, directoryv1.StreamUsers, directoryv1.EntryFilter(users, "corp"), func(context.Context, *bus.Delivery) error {
		switch n.Add(1) {
		case 1:
			return bus.Later(-time.Hour, errors.New("waits"))
		case 2:
			return bus.Later(0, errors.New("waits"))
		}
		return nil
	})
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bus.Verdict{bus.Delayed, bus.Delayed, bus.Acked} {
		if got := <-verdicts; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A panic in a handler does not end the process; the message comes again.
func TestPanicOfAHandlerIsARetry(t *testing.T) { onBoth(t, testPanicOfAHandlerIsARetry) }

func testPanicOfAHandlerIsARetry(t *testing.T, b *bus.Bus) {
	t.Helper()
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1)}); err != nil {
		t.Fatal(err)
	}
	verdicts := consume(t, b, directoryv1.StreamUsers, directoryv1.EntryFilter(users, "corp"), func(_ context.Context, d *bus.Delivery) error {
		if d.Attempt == 1 {
			panic("a defect")
		}
		return nil
	})
	if first, second := <-verdicts, <-verdicts; first != bus.Retry || second != bus.Acked {
		t.Errorf("the verdicts are %s and %s, want %s and %s", first, second, bus.Retry, bus.Acked)
	}
}

func TestScheduledRequestIsDelivered(t *testing.T) { onBoth(t, testScheduledRequestIsDelivered) }

func testScheduledRequestIsDelivered(t *testing.T, b *bus.Bus) {
	t.Helper()
	got := make(chan string, 1)
	consume(t, b, provisioningv1.StreamRequests, provisioningv1.RequestFilter(users, "wiki"), func(_ context.Context, d *bus.Delivery) error {
		_, id, err := d.Entry()
		got <- string(id)
		return err
	})
	if err := b.ScheduleRequestAt(t.Context(), users, "wiki", entry(1), "retry", time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != string(entry(1)) {
		t.Errorf("request for %q", id)
	}
}

func TestBucketConflictAndDelete(t *testing.T) { onBoth(t, testBucketConflictAndDelete) }

func testBucketConflictAndDelete(t *testing.T, b *bus.Bus) {
	t.Helper()
	bucket := bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
	key := provisioningv1.LinkKey("wiki", users, entry(1))
	if _, revision, err := bucket.Get(t.Context(), key); !errors.Is(err, bus.ErrNotFound) || revision != 0 {
		t.Fatalf("empty key: revision %d, %v", revision, err)
	}
	revision, err := bucket.Put(t.Context(), key, &provisioningv1.Link{ResourceId: "7"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), key, &provisioningv1.Link{}, 0); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	writer := bus.NewWriter(b)
	defer writer.Close()
	revisions, err := writer.Commit(t.Context(), bucket.Remove(key, revision))
	if err != nil {
		t.Fatal(err)
	}
	if _, after, err := bucket.Get(t.Context(), key); !errors.Is(err, bus.ErrNotFound) || after != revisions[0] {
		t.Errorf("after removal: revision %d, %v; want %d, ErrNotFound", after, err, revisions[0])
	}
	if _, err := bucket.Put(t.Context(), key, &provisioningv1.Link{}, revisions[0]); err != nil {
		t.Errorf("write over a removed key: %v", err)
	}
}

func TestWriterFailsOnlyTheOneInConflict(t *testing.T) {
	onBoth(t, testWriterFailsOnlyTheOneInConflict)
}

func testWriterFailsOnlyTheOneInConflict(t *testing.T, b *bus.Bus) {
	t.Helper()
	bucket := bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
	writer := bus.NewWriter(b)
	defer writer.Close()
	const n = 200
	failed := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			key := provisioningv1.LinkKey("wiki", users, entry(i))
			revision := uint64(0)
			if i%10 == 0 {
				revision = 424242
			}
			w, err := bucket.Write(key, &provisioningv1.Link{Sequence: uint64(i)}, revision)
			if err != nil {
				failed[i] = err
				return
			}
			_, failed[i] = writer.Commit(t.Context(), w)
		})
	}
	wg.Wait()
	for i, err := range failed {
		if i%10 == 0 && !errors.Is(err, bus.ErrConflict) {
			t.Errorf("write %d: got %v, want ErrConflict", i, err)
		}
		if i%10 != 0 && err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	for i := 1; i < n; i += 50 {
		link, _, err := bucket.Get(t.Context(), provisioningv1.LinkKey("wiki", users, entry(i)))
		if err != nil || link.GetSequence() != uint64(i) {
			t.Errorf("entry %d: %v, %v", i, link, err)
		}
	}
}

// One caller's message that is too large fails none of the others.
func TestWriterFailsOnlyTheOneThatIsTooLarge(t *testing.T) {
	onBoth(t, testWriterFailsOnlyTheOneThatIsTooLarge)
}

func testWriterFailsOnlyTheOneThatIsTooLarge(t *testing.T, b *bus.Bus) {
	t.Helper()
	writer := bus.NewWriter(b)
	defer writer.Close()
	const n = 200
	failed := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			m := bus.Message{Subject: provisioningv1.OutcomeSubject(users, "wiki", entry(i)), Data: []byte("done")}
			if i%50 == 0 {
				m.Data = make([]byte, 2<<20)
			}
			_, failed[i] = writer.Commit(t.Context(), bus.Append(m))
		})
	}
	wg.Wait()
	for i, err := range failed {
		if tooLarge := i%50 == 0; tooLarge != (err != nil) {
			t.Errorf("write %d, too large: %t: %v", i, tooLarge, err)
		}
	}
	last, err := b.LastSequence(t.Context(), provisioningv1.StreamOutcomes)
	if err != nil || last != n-n/50 {
		t.Errorf("%d outcomes are stored (%v), want each once: %d", last, err, n-n/50)
	}
}

func TestLeaseHasOneHolderAndIsTakenOver(t *testing.T) {
	onBoth(t, testLeaseHasOneHolderAndIsTakenOver)
}

func testLeaseHasOneHolderAndIsTakenOver(t *testing.T, b *bus.Bus) {
	t.Helper()
	first, second := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var holders atomic.Int32
	run := func(started chan struct{}) func(context.Context) error {
		return func(ctx context.Context) error {
			if n := holders.Add(1); n != 1 {
				t.Errorf("%d holders at a time", n)
			}
			close(started)
			<-ctx.Done()
			holders.Add(-1)
			return nil
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.WithLease(ctx, provisioningv1.BucketSources, "corp.lease", "one", 3*time.Second, run(first)); err != nil {
			t.Errorf("first holder: %v", err)
		}
	})
	<-first
	ctx2, cancel2 := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := b.WithLease(ctx2, provisioningv1.BucketSources, "corp.lease", "two", 3*time.Second, run(second)); err != nil {
			t.Errorf("second holder: %v", err)
		}
	})
	if holder, err := b.Holder(t.Context(), provisioningv1.BucketSources, "corp.lease"); err != nil || holder != "one" {
		t.Errorf("holder %q, %v", holder, err)
	}
	cancel()
	<-second
	cancel2()
	wg.Wait()
}

// Owners that need a lease for a moment only do not wait for its life.
func TestLeaseOfAMomentIsPassedOn(t *testing.T) { onBoth(t, testLeaseOfAMomentIsPassedOn) }

func testLeaseOfAMomentIsPassedOn(t *testing.T, b *bus.Bus) {
	t.Helper()
	const life = time.Minute
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			err := b.WithLease(t.Context(), provisioningv1.BucketTargets, "look.lease", strconv.Itoa(i), life, func(context.Context) error { return nil })
			if err != nil {
				t.Errorf("owner %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > life/6 {
		t.Errorf("four owners took %v for nothing", took)
	}
}

func TestPutTextOnceGivesEverybodyTheSame(t *testing.T) {
	onBoth(t, testPutTextOnceGivesEverybodyTheSame)
}

func testPutTextOnceGivesEverybodyTheSame(t *testing.T, b *bus.Bus) {
	t.Helper()
	for _, text := range []string{"first", "second"} {
		got, err := b.PutTextOnce(t.Context(), provisioningv1.BucketTargets, "key", text)
		if err != nil || got != "first" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestBackOffGrowsAndIsBounded(t *testing.T) {
	t.Parallel()
	if d := bus.BackOff(1); d < 500*time.Millisecond || d > 2*time.Second {
		t.Errorf("first delay %s", d)
	}
	for attempt := range uint64(100) {
		if d := bus.BackOff(attempt + 1); d > 7*time.Minute || d <= 0 {
			t.Errorf("attempt %d: %s", attempt+1, d)
		}
	}
}

func BenchmarkFencedBatch(b *testing.B) {
	server := bustest.Start(b)
	fence, err := server.TakeFence(b.Context(), users, "corp", "bench")
	if err != nil {
		b.Fatal(err)
	}
	messages := make([]bus.Message, bus.MaxBatch-1)
	for i := range messages {
		messages[i] = bus.Message{Subject: subject(i), Data: make([]byte, 500)}
	}
	for b.Loop() {
		if _, err := fence.Publish(b.Context(), messages); err != nil {
			b.Fatal(err)
		}
	}
}
