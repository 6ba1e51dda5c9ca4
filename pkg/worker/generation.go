package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Generation is a connection's current configuration.
type Generation struct {
	Number int    `json:"number"`
	Hash   string `json:"hash"`
	// Source and Target are what the links stand for: a source's name and a
	// target's address.
	Source string `json:"source,omitempty"`
	Target string `json:"target,omitempty"`
	// RenamedTo is set when the connection has another name now.
	RenamedTo string `json:"renamed_to,omitempty"`
	// DryRun says that nothing was sent under this configuration.
	DryRun bool `json:"dry_run,omitempty"`
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

// consumer names a durable consumer of a stream.
type consumer struct{ stream, name string }

// consumersOf are the consumers of one kind of a connection's configuration.
func consumersOf(kind directoryv1.Kind, connection, hash string) []consumer {
	return []consumer{
		{kind.Stream(), ChangesConsumer(kind, connection, hash)},
		{provisioningv1.StreamRequests, RequestsConsumer(kind, connection)},
	}
}

// windowFactor is how many messages may be in flight for each call in flight.
const windowFactor = 16

// kinds are all kinds.
var kinds = []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP}

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

func putGeneration(ctx context.Context, b *bus.Bus, connection string, g Generation) error {
	data, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encode generation: %w", err)
	}
	return b.PutText(ctx, provisioningv1.BucketTargets, generationKey(connection), string(data), 0)
}

// Plan is what Advance makes current.
type Plan struct {
	Connection, Source, Hash string
	// Target is the target's address, RenamedFrom the connection's former name.
	Target, RenamedFrom string
	Kinds               []directoryv1.Kind
	// Concurrency is the number of calls in flight over all replicas.
	Concurrency int
	// DryRun says that nothing is sent.
	DryRun bool
}

// PlanOf is the plan that makes a connection's present configuration current.
func PlanOf(cfg *connection.Config, name string) Plan {
	c := cfg.Connections[name]
	p := Plan{
		Connection: name, Source: c.Source, Hash: cfg.Hash(name), Target: c.TargetID(), RenamedFrom: c.RenamedFrom,
		Concurrency: c.Target.Concurrency, DryRun: c.DryRun, Kinds: []directoryv1.Kind{directoryv1.Kind_KIND_USER},
	}
	if c.Groups != nil {
		p.Kinds = append(p.Kinds, directoryv1.Kind_KIND_GROUP)
	}
	return p
}

// Advance makes a configuration the current generation of its connection. Only the
// detector that holds the source's lease, and the setup command, call it. It may
// be called again at any time.
//
//  1. take over the links of a former name
//  2. refuse what the links cannot follow: another source, another target
//  3. create the consumers, and note which kinds never ran before
//  4. name the configuration
//  5. pause them, where the connection was paused meanwhile
//  6. delete the consumers of the former one
func Advance(ctx context.Context, b *bus.Bus, p Plan) error {
	if err := rename(ctx, b, p); err != nil { // 1
		return err
	}
	current, err := CurrentGeneration(ctx, b, p.Connection)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if err := Refused(ctx, b, p, current); err != nil { // 2
		return err
	}
	if err := consumers(ctx, b, p); err != nil { // 3
		return err
	}
	for _, kind := range p.Kinds { // before the consumer that tells is gone
		if _, err := endFirstRun(ctx, b, p.Connection, current.Hash, kind, current.DryRun); err != nil {
			return err
		}
	}
	if err := name(ctx, b, p, current); err != nil { // 4
		return err
	}
	if _, _, err := agree(ctx, b, p.Connection); err != nil { // 5
		return err
	}
	return retire(ctx, b, p) // 6
}

// ErrRefused says that links exist that a configuration cannot follow.
var ErrRefused = errors.New("its links stand for something else")

// Refused says why a configuration cannot become current, with the cure; nil when
// it can.
func Refused(ctx context.Context, b *bus.Bus, p Plan, current Generation) error {
	key := "connections." + p.Connection
	cure := fmt.Sprintf("; change it back, or run `rollcall forget %s`, after which everything is matched again", p.Connection)
	var problem string
	switch {
	case current.RenamedTo != "":
		return fmt.Errorf("%s: %w: the connection is called %s now; change the name, or run `rollcall forget %s`", key, ErrRefused, current.RenamedTo, p.Connection)
	case current.Source != "" && current.Source != p.Source:
		problem = fmt.Sprintf("%s.source: %%w: they are of source %s", key, current.Source)
	case current.Target != "" && current.Target != p.Target:
		problem = fmt.Sprintf("%s.target.url: %%w: they are of the target %s", key, current.Target)
	default:
		return nil
	}
	some, err := links.Any(ctx, b, p.Connection)
	if err == nil && some && current.Source == p.Source {
		some, err = hasResources(ctx, b, p.Connection)
	}
	if err != nil || !some {
		return err
	}
	return fmt.Errorf(problem+"%s", ErrRefused, cure)
}

var errSome = errors.New("there is one")

// hasResources says whether a link names a resource of the target: to the others it is
// all the same which target it is.
func hasResources(ctx context.Context, b *bus.Bus, connection string) (bool, error) {
	bucket := bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
	for _, kind := range kinds {
		err := bucket.Read(ctx, provisioningv1.LinkFilter(connection, kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
			if links.HasResource(e.Value) {
				return errSome
			}
			return nil
		})
		switch {
		case errors.Is(err, errSome):
			return true, nil
		case err != nil:
			return false, err
		}
	}
	return false, nil
}

func consumers(ctx context.Context, b *bus.Bus, p Plan) error {
	paused, err := Paused(ctx, b, p.Connection)
	if err != nil {
		return err
	}
	for _, kind := range p.Kinds {
		window := windowFactor * p.Concurrency
		changes := bus.ConsumerSpec{
			Stream: kind.Stream(), Name: ChangesConsumer(kind, p.Connection, p.Hash),
			Filter: directoryv1.EntryFilter(kind, p.Source), Window: window, Paused: paused != nil,
		}
		requests := bus.ConsumerSpec{
			Stream: provisioningv1.StreamRequests, Name: RequestsConsumer(kind, p.Connection),
			Filter: provisioningv1.RequestFilter(kind, p.Connection), Window: window, Paused: paused != nil,
		}
		if err := errors.Join(b.EnsureConsumer(ctx, changes), b.EnsureConsumer(ctx, requests), beginFirstRun(ctx, b, p.Connection, kind)); err != nil {
			return err
		}
	}
	return nil
}

func name(ctx context.Context, b *bus.Bus, p Plan, current Generation) error {
	next := Generation{Number: current.Number, Hash: p.Hash, Source: p.Source, Target: p.Target, DryRun: p.DryRun}
	if current.Hash != p.Hash {
		next.Number++
	}
	if next == current {
		return nil
	}
	return putGeneration(ctx, b, p.Connection, next)
}

// retire deletes the consumers of changes of former generations, and of kinds that
// the connection no longer has.
func retire(ctx context.Context, b *bus.Bus, p Plan) error {
	wanted := map[string]bool{}
	for _, kind := range p.Kinds {
		wanted[ChangesConsumer(kind, p.Connection, p.Hash)] = true
	}
	return eachChangesConsumer(ctx, b, p.Connection, func(kind directoryv1.Kind, name string) error {
		if wanted[name] {
			return nil
		}
		return b.DeleteConsumer(ctx, kind.Stream(), name)
	})
}

// eachChangesConsumer visits the consumers of changes of every generation of a
// connection.
func eachChangesConsumer(ctx context.Context, b *bus.Bus, connection string, visit func(kind directoryv1.Kind, name string) error) error {
	for _, kind := range kinds {
		names, err := b.Consumers(ctx, kind.Stream())
		if err != nil {
			return err
		}
		prefix := ChangesConsumer(kind, connection, "")
		for _, name := range names {
			hash, ours := strings.CutPrefix(name, prefix)
			if !ours || strings.Contains(hash, "-") {
				continue
			}
			if err := visit(kind, name); err != nil {
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
