package simulation

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/bus"
)

// mistake is a deliberate one; nil is none.
type mistake struct {
	name string
	// wrap makes a process's connection to NATS one of a worker that makes the mistake.
	wrap func(p *process, s bus.Store) bus.Store
	// careless has the process send requests whose time is over.
	careless bool
}

func (m *mistake) suffix() string {
	if m == nil {
		return ""
	}
	return " with the mistake " + m.name
}

func (m *mistake) store(p *process, s bus.Store) bus.Store {
	if m == nil || m.wrap == nil {
		return s
	}
	return m.wrap(p, s)
}

func (m *mistake) patience(ctx context.Context) context.Context {
	if m != nil && m.careless {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
