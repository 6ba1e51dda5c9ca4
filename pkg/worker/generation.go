package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Generation is a connection's current configuration.
type Generation struct {
	Number int    `json:"number"`
	Hash   string `json:"hash"`
}

// ChangesConsumer is the name of the durable consumer of a connection's changes:
// <kind>-<connection>-<hash>. A new configuration has a new one, which begins
// with everything that the stream holds.
func ChangesConsumer(kind directoryv1.Kind, connection, hash string) string {
	return kind.Token() + "-" + connection + "-" + hash
}

// RequestsConsumer is the name of the durable consumer of a connection's
// requests: <kind>-<connection>.
func RequestsConsumer(kind directoryv1.Kind, connection string) string {
	return kind.Token() + "-" + connection
}

// windowFactor is how many messages may be in flight for each call in flight.
const windowFactor = 8

func generationKey(connection string) string { return connection + ".generation" }

// CurrentGeneration is the connection's current configuration; bus.ErrNotFound
// when it never ran.
func CurrentGeneration(ctx context.Context, b *bus.Bus, connection string) (Generation, error) {
	text, err := b.Text(ctx, provisioningv1.BucketTargets, generationKey(connection))
	if err != nil {
		return Generation{}, err
	}
	var g Generation
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		return Generation{}, fmt.Errorf("decode generation of %s: %w", connection, err)
	}
	return g, nil
}

// Plan is what Advance makes current.
type Plan struct {
	Connection, Source, Hash string
	Kinds                    []directoryv1.Kind
	// Concurrency is the number of calls in flight over all replicas.
	Concurrency int
}

// Advance makes a configuration the current generation of its connection:
// creates its consumers, names it, and deletes the consumers of the former one.
// Only the detector that holds the source's lease, and the setup command, call
// it. It may be called again at any time.
func Advance(ctx context.Context, b *bus.Bus, p Plan) error {
	for _, kind := range p.Kinds {
		window := windowFactor * p.Concurrency
		changes := bus.ConsumerSpec{
			Stream: kind.Stream(), Name: ChangesConsumer(kind, p.Connection, p.Hash),
			Filter: directoryv1.EntryFilter(kind, p.Source), Window: window,
		}
		requests := bus.ConsumerSpec{
			Stream: provisioningv1.StreamRequests, Name: RequestsConsumer(kind, p.Connection),
			Filter: provisioningv1.RequestFilter(kind, p.Connection), Window: window,
		}
		if err := errors.Join(b.EnsureConsumer(ctx, changes), b.EnsureConsumer(ctx, requests)); err != nil {
			return err
		}
	}
	if err := name(ctx, b, p); err != nil {
		return err
	}
	return retire(ctx, b, p)
}

func name(ctx context.Context, b *bus.Bus, p Plan) error {
	current, err := CurrentGeneration(ctx, b, p.Connection)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if current.Hash == p.Hash {
		return nil
	}
	next, err := json.Marshal(Generation{Number: current.Number + 1, Hash: p.Hash})
	if err != nil {
		return fmt.Errorf("encode generation: %w", err)
	}
	return b.PutText(ctx, provisioningv1.BucketTargets, generationKey(p.Connection), string(next), 0)
}

// retire deletes the consumers of changes of former generations, and of kinds that
// the connection no longer has.
func retire(ctx context.Context, b *bus.Bus, p Plan) error {
	wanted := map[string]bool{}
	for _, kind := range p.Kinds {
		wanted[ChangesConsumer(kind, p.Connection, p.Hash)] = true
	}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		names, err := b.Consumers(ctx, kind.Stream())
		if err != nil {
			return err
		}
		prefix := ChangesConsumer(kind, p.Connection, "")
		for _, name := range names {
			hash, ours := strings.CutPrefix(name, prefix)
			if !ours || strings.Contains(hash, "-") || wanted[name] {
				continue
			}
			if err := b.DeleteConsumer(ctx, kind.Stream(), name); err != nil {
				return err
			}
		}
	}
	return nil
}

func attributesKey(source, id string) string { return source + ".attributes." + id }

// StoreAttributeSet makes the list behind an attribute set's id known to the
// workers; the detector calls it before it publishes a change with that id.
func StoreAttributeSet(ctx context.Context, b *bus.Bus, source string, set mapping.Set) error {
	_, err := b.PutTextOnce(ctx, provisioningv1.BucketSources, attributesKey(source, set.ID()), strings.Join(set.Names(), "\n"))
	return err
}

// ReadAttributeSet is the set with this id.
func ReadAttributeSet(ctx context.Context, b *bus.Bus, source, id string) (mapping.Set, error) {
	text, err := b.Text(ctx, provisioningv1.BucketSources, attributesKey(source, id))
	if err != nil {
		return nil, fmt.Errorf("read attribute set %s of source %s: %w", id, source, err)
	}
	return mapping.NewSet(strings.Split(text, "\n")), nil
}
