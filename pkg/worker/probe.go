package worker

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// probeJitter spreads the probes of several connections.
const probeJitter = 0.2

// tend probes: once on a suspicion, and on and on while the connection is paused
// because of the target.
func (b *Breaker) tend(ctx context.Context) {
	for ctx.Err() == nil {
		b.mu.Lock()
		news, p := b.news, b.pause
		b.mu.Unlock()
		if p != nil && !manual(p) && len(b.suspicion) == 0 {
			b.await(ctx, news)
			continue
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-b.suspicion:
			b.examine(ctx)
		}
	}
}

// examine is the probe that decides whether the target or the entries are at fault.
func (b *Breaker) examine(ctx context.Context) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		close(b.examining)
		b.examining = nil
	}()
	p, revision, err := readPause(ctx, b.bus, b.connection)
	if err == nil && p != nil { // another replica was faster
		b.see(p, revision)
		return
	}
	if err = b.probe(ctx); faultOf(err) == fine || ctx.Err() != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.failures, b.quiet, b.answered = 0, time.Now().Add(b.times.Quiet), time.Now()
		return
	}
	b.trip(ctx, because(err))
}

// trip pauses the connection, unless it is paused already.
func (b *Breaker) trip(ctx context.Context, p *provisioningv1.Pause) {
	former, revision, err := changePause(ctx, b.bus, b.connection, placing(p))
	if err != nil {
		b.log.WarnContext(ctx, "pause the connection", "error", err)
	}
	switch {
	case revision == 0: // nothing was written
	case former == nil:
		b.complain(ctx, p)
		b.see(p, revision)
	default:
		b.see(former, revision)
	}
}

// because is the pause for what a probe met.
func because(err error) *provisioningv1.Pause {
	p := &provisioningv1.Pause{Reason: provisioningv1.PauseReason_PAUSE_REASON_OUTAGE, Message: err.Error()}
	if faultOf(err) == refused {
		p.Reason = provisioningv1.PauseReason_PAUSE_REASON_CREDENTIALS
	}
	return p
}

func (b *Breaker) complain(ctx context.Context, p *provisioningv1.Pause) {
	key := "connections." + b.connection + ".target."
	if p.GetReason() == provisioningv1.PauseReason_PAUSE_REASON_CREDENTIALS {
		b.log.ErrorContext(ctx, "connection paused: the target refuses the credentials", "answer", p.GetMessage(), "cure", "check "+key+"auth")
		return
	}
	b.log.ErrorContext(ctx, "connection paused: the target does not answer", "answer", p.GetMessage(),
		"cure", "nothing is lost, and it resumes by itself; if it lasts, check the target and "+key+"url")
}

// await probes until the pause is over or another one, in one replica at a time.
func (b *Breaker) await(ctx context.Context, news <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-news:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := b.bus.WithLease(ctx, provisioningv1.BucketTargets, b.connection+".probe", b.owner, b.times.Lease, b.probeOn)
	if err != nil && ctx.Err() == nil {
		b.log.WarnContext(ctx, "probe the target", "error", err)
		pause(ctx, time.Second)
	}
}

// probeOn probes, less and less often, until the target answers, and resumes.
func (b *Breaker) probeOn(ctx context.Context) error {
	waits := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(b.times.First), backoff.WithMaxInterval(b.times.Longest), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(probeJitter), backoff.WithMaxElapsedTime(0))
	wait := waits.NextBackOff()
	for {
		pause(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := b.probe(ctx)
		switch {
		case ctx.Err() != nil: // nobody needs the answer
			return ctx.Err()
		case faultOf(err) == fine:
			return b.resume(ctx)
		}
		wait = max(waits.NextBackOff(), scim.RetryAfter(err))
		if err := b.restate(ctx, because(err)); err != nil {
			return err
		}
	}
}

// restate keeps the reason and the answer of a pause up to date; it makes none.
func (b *Breaker) restate(ctx context.Context, p *provisioningv1.Pause) error {
	ctx, cancel := whole(ctx)
	defer cancel()
	former, revision, err := changePause(ctx, b.bus, b.connection, func(current *provisioningv1.Pause) *provisioningv1.Pause {
		if current == nil {
			return nil
		}
		return placing(p)(current)
	})
	if err != nil || former == nil || manual(former) {
		return err
	}
	if former.GetReason() != p.GetReason() {
		b.complain(ctx, p)
	}
	b.see(p, revision)
	return nil
}

// whole lets a change of the pause be finished: the news of it ends the probing
// before the consumers agree.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
}

const changeTimeout = 10 * time.Second

// resume lifts a pause that was made because of the target.
func (b *Breaker) resume(ctx context.Context) error {
	ctx, cancel := whole(ctx)
	defer cancel()
	former, revision, err := changePause(ctx, b.bus, b.connection, func(current *provisioningv1.Pause) *provisioningv1.Pause {
		if manual(current) {
			return current
		}
		return nil
	})
	if err != nil || former == nil || manual(former) {
		return err
	}
	b.log.InfoContext(ctx, "connection resumed: the target answers", "paused_for", time.Since(former.GetSince().AsTime()).Round(time.Millisecond).String())
	b.see(nil, revision)
	return nil
}
