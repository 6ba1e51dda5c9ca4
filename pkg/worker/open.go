package worker

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// target is what a process has for one connection's target.
type target struct {
	client  *scim.Client
	limiter *limiter
	share   *share
	prober  *scim.Client // sends probes, past the breaker and the client's limits
	breaker *Breaker
	// capabilities are what is known of the target beyond its profile; nil where the
	// process does not ask.
	capabilities *capabilities
}

// openTarget makes the client of a target and its breaker.
func (p *Process) openTarget(c *connection.Connection) (*target, error) {
	cfg, err := targetConfig(c)
	if err != nil {
		return nil, err
	}
	cfg.Transport = p.transport
	t := &target{}
	if t.prober, err = newTarget(c, true, p.transport); err != nil {
		return nil, err
	}
	t.breaker = newBreaker(p, c.Name, func(ctx context.Context) error {
		return crash.Catch(ctx, p.log, crash.Background, func() error {
			_, err := t.prober.Find(ctx, scim.KindUser, "userName", nobody)
			return err
		})
	})
	count := cfg.Observe
	t.limiter = newLimiter(p, c.Name, scim.Rate{RequestsPerSecond: cfg.RequestsPerSecond, Burst: cfg.Burst}, cfg.Profile.Rates)
	t.share = newShare(p, c.Name, c.Target.Concurrency)
	cfg.Limiter, cfg.Slots = t.limiter, t.share
	cfg.Admit = t.breaker.Admit
	cfg.Observe = func(ctx context.Context, call scim.Call) {
		count(ctx, call)
		t.breaker.Observe(call)
	}
	if p.discovers {
		t.capabilities = newCapabilities(p, c, cfg.Profile)
		cfg.Learned = t.capabilities.learned
	}
	if t.client, err = scim.New(cfg); err != nil {
		return nil, err
	}
	if t.capabilities != nil {
		t.capabilities.start(t.client, t.prober)
	}
	t.limiter.start()
	t.share.start()
	return t, nil
}

// nobody is a user name that no user has.
const nobody = "rollcall-probe-nobody"

func (t *target) close() {
	if t.capabilities != nil {
		t.capabilities.close()
	}
	t.breaker.Close()
	t.limiter.close()
	t.share.close()
	t.client.Close()
	t.prober.Close()
}
