package simulation

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/membus"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// process is one life of a worker process: the real user-sync, whose calls to NATS and to
// the target all go through this value. Each of them is a step, at which it may be killed.
type process struct {
	world *world
	name  string
	// dieAt is the step at which it is killed; 0: at none.
	dieAt int

	gone   chan struct{}
	ended  chan struct{}
	cancel context.CancelFunc
	client *membus.Client

	mu    sync.Mutex
	steps int
	dead  bool
	draws map[string]uint64
}

var (
	_ membus.Network    = (*process)(nil)
	_ http.RoundTripper = (*process)(nil)
)

// start begins a life.
func (w *world) start(name string, dieAt int) *process {
	p := &process{world: w, name: name, dieAt: dieAt, gone: make(chan struct{}), ended: make(chan struct{}), draws: map[string]uint64{}}
	w.history.add(name, "starts", "", nil)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.client = w.server.Client(p)
	log := slog.New(logger{world: w, who: name})
	b := bus.New(w.mistake.store(p, p.client), bus.Config{Name: name, Log: log})
	go func() {
		defer close(p.ended)
		process, err := worker.NewProcess(b, w.config.Config, log) //nolint:contextcheck // its writers end with Close
		if err != nil {
			w.fail("%s: %v", name, err)
			return
		}
		process.Simulate(name, p)
		process.LookAgain(lookAgain)
		if err := usersync.Run(ctx, w.config.Config, process); err != nil {
			w.history.add(name, "ends", "", err) // and is started again
		}
		process.Close()
	}()
	return p
}

// kill ends a life: from here on nothing of it happens but what is on its way.
func (p *process) kill() {
	p.mu.Lock()
	dead := p.dead
	p.dead = true
	p.mu.Unlock()
	if dead {
		return
	}
	p.world.history.add(p.name, "is killed", "", nil)
	close(p.gone)
	p.cancel()
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// step counts a step, and says whether the process is alive after it.
func (p *process) step() bool {
	p.mu.Lock()
	p.steps++
	dies := p.steps == p.dieAt
	p.mu.Unlock()
	if dies {
		p.kill()
	}
	return !p.isDead()
}

// draw is a source of choices that belongs to one call: the same for the n-th call of its
// name in every run of a seed, whatever else goes on at the time.
func (p *process) draw(what string) *rand.Rand {
	p.mu.Lock()
	p.draws[what]++
	n := p.draws[what]
	p.mu.Unlock()
	return rand.New(rand.NewPCG(p.world.seed, hash(p.name+" "+what)+n))
}

// hash is FNV-1a, which is the same in every run.
func hash(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

// Gone is closed when the process is killed.
func (p *process) Gone() <-chan struct{} { return p.gone }

// travel waits for a message to arrive; an error says that its sender has gone before.
func (p *process) travel(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gone:
		return membus.ErrGone
	}
}

// Call carries a request to NATS.
func (p *process) Call(ctx context.Context, op membus.Op, arrive func() error) error {
	if !p.step() {
		return membus.ErrGone
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := p.draw(op.Verb + op.Object)
	faulty := p.world.faulty()
	out := delay(r, faulty)
	lost, killed, anyway := faulty && r.IntN(150) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	deliver := func() error {
		err := arrive()
		p.world.history.add(p.name, op.Verb, op.Object, errOrNil(err))
		return err
	}
	if err := p.travel(ctx, out); err != nil {
		if anyway { // it is on its way, and arrives without its sender
			p.world.later(delay(r, true), func() { _ = deliver() })
		} else {
			p.world.history.add(p.name, op.Verb, op.Object, "never arrives")
		}
		return err
	}
	if lost && killed {
		p.world.history.add(p.name, op.Verb, op.Object, "is lost")
	} else if err := deliver(); err != nil {
		return err
	}
	if lost {
		p.world.history.add(p.name, op.Verb, op.Object, "no answer arrives")
		if err := p.travel(ctx, natsTimeout); err != nil {
			return err
		}
		return context.DeadlineExceeded
	}
	if !p.step() {
		return membus.ErrGone
	}
	return nil
}

func errOrNil(err error) any {
	if err == nil {
		return nil
	}
	return err
}

// Send carries an acknowledgement to NATS.
func (p *process) Send(op membus.Op, arrive func()) error {
	if !p.step() {
		return membus.ErrGone
	}
	r := p.draw(op.Verb + op.Object)
	d := delay(r, p.world.faulty())
	if p.world.faulty() && r.IntN(30) == 0 {
		p.world.history.add(p.name, op.Verb, op.Object, "is lost")
		return nil
	}
	p.world.later(d, func() {
		p.world.history.add(p.name, op.Verb, op.Object, nil)
		arrive()
	})
	return nil
}

// Transit is how long a message of NATS is on its way: now and then longer than the ack
// wait.
func (p *process) Transit(op membus.Op) time.Duration {
	r := p.draw(op.Verb + op.Object)
	if op.Verb == "deliver" && p.world.faulty() && r.IntN(100) == 0 {
		return 25*time.Second + time.Duration(r.Int64N(int64(15*time.Second)))
	}
	return delay(r, false)
}

// delay is that of one message: mostly short, sometimes long.
func delay(r *rand.Rand, faulty bool) time.Duration {
	d := 20*time.Microsecond + time.Duration(r.Int64N(int64(2*time.Millisecond)))
	if faulty && r.IntN(20) == 0 {
		d += time.Duration(r.Int64N(int64(800 * time.Millisecond)))
	}
	return d
}
