package detector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// publisher writes publications behind the source's fences and keeps the memory
// of what the streams hold.
type publisher struct {
	*detector
	fences map[directoryv1.Kind]*bus.Fence
	memory memory
	tracer trace.Tracer
	next   batch
	// outdated says that the streams may hold something else than the memory says.
	outdated bool
	// would, where it is not nil, takes what would be published instead.
	would map[held.Key]*publication
}

func newPublisher(ctx context.Context, d *detector) (*publisher, error) {
	p := &publisher{detector: d, fences: map[directoryv1.Kind]*bus.Fence{}, tracer: otel.Tracer(Scope)}
	for _, kind := range kinds {
		fence, err := d.bus.TakeFence(ctx, kind, d.name, d.owner)
		if err != nil {
			return nil, err
		}
		p.fences[kind] = fence
	}
	var err error
	p.memory, err = remember(ctx, d.bus, d.name)
	return p, err
}

// item is a publication on its way, with the messages that carry it and the
// spans that end when it is stored.
type item struct {
	*publication
	messages []bus.Message
	spans    []trace.Span
}

// batch is what is stored next, all of one kind.
type batch struct {
	kind     directoryv1.Kind
	items    []*item
	messages int
}

// publish stores publications in batches, users first.
func (p *publisher) publish(ctx context.Context, publications []*publication) error {
	for _, kind := range kinds {
		for _, pub := range publications {
			if pub.key().Kind != kind {
				continue
			}
			if err := p.add(ctx, pub); err != nil {
				return err
			}
		}
	}
	return p.flush(ctx)
}

// add stores a publication with the next batch; each stands whole in one batch.
func (p *publisher) add(ctx context.Context, pub *publication) error {
	kind := pub.key().Kind
	if p.would != nil {
		p.would[pub.key()] = pub
		var sequence uint64 // the stream stays as it is
		if before := p.memory[kind][pub.id()]; before != nil {
			sequence = before.sequence
		}
		p.memory[kind][pub.id()] = pub.published(sequence)
		return nil
	}
	one, err := p.item(ctx, pub)
	if err != nil {
		return err
	}
	if p.next.kind != kind || p.next.messages+len(one.messages) > bus.MaxBatch-1 {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	p.next.kind, p.next.items, p.next.messages = kind, append(p.next.items, one), p.next.messages+len(one.messages)
	return nil
}

// item makes the messages of a publication: its change and, for a group, the
// chunks that differ from those on the stream. Its trace begins here.
func (p *publisher) item(ctx context.Context, pub *publication) (*item, error) {
	kind, id := pub.change.GetKind(), ID(pub.change.GetEntryId())
	before := p.memory[kind][id]
	detected := time.Now()
	if pub.detected != 0 {
		detected = time.Unix(0, pub.detected)
	}
	ctx, span := p.tracer.Start(ctx, "detect "+kind.Token(), trace.WithNewRoot(), trace.WithTimestamp(detected),
		trace.WithAttributes(attribute.String("rollcall.source", p.name), attribute.String("rollcall.entry.id", id.String()),
			attribute.String("rollcall.op", pub.change.GetOp().String())))
	m := bus.Message{
		Subject: directoryv1.EntrySubject(kind, p.name, id[:]), Data: pub.data, Expect: new(uint64(0)),
		Header: map[string]string{
			directoryv1.HeaderContentHash: pub.hash.String(), directoryv1.HeaderOp: pub.change.GetOp().String(),
			directoryv1.HeaderDetectedAt: detected.UTC().Format(time.RFC3339Nano),
		},
	}
	if pub.fields != (fields{}) && !pub.removal() {
		m.Header[directoryv1.HeaderFields] = pub.fields.Value()
	}
	if pub.approval != "" {
		m.Header[directoryv1.HeaderApproval] = pub.approval
	}
	if before != nil {
		m.Expect = new(before.sequence)
	}
	create := p.bus.StartCreate(ctx, kind.Stream(), &m)
	one := &item{publication: pub, messages: []bus.Message{m}, spans: []trace.Span{create, span}}
	for n, members := range pub.chunks {
		if before.same(n, pub) {
			continue
		}
		data, err := proto.Marshal(&directoryv1.MemberChunk{Members: members})
		if err != nil {
			return nil, fmt.Errorf("encode members: %w", err)
		}
		one.messages = append(one.messages, bus.Message{Subject: directoryv1.ChunkSubject(p.name, id[:], n), Data: data})
	}
	return one, nil
}

// flush stores the next batch. When that fails, nobody knows for certain what the
// streams hold: the memory is read again before the next pass.
func (p *publisher) flush(ctx context.Context) error {
	kind, items := p.next.kind, p.next.items
	p.next = batch{}
	if len(items) == 0 {
		return nil
	}
	var messages []bus.Message
	for _, one := range items {
		messages = append(messages, one.messages...)
	}
	sequences, err := p.fences[kind].Publish(ctx, messages)
	for _, one := range items {
		for _, span := range one.spans {
			span.End()
		}
	}
	if err != nil {
		p.outdated = true
		return fmt.Errorf("publish %d changes: %w", len(items), err)
	}
	for _, one := range items {
		p.memory[kind][ID(one.change.GetEntryId())] = one.published(sequences[0])
		sequences = sequences[len(one.messages):]
	}
	p.metrics.published(ctx, kind, len(items))
	return nil
}

// drop forgets the next batch: the pass that made it failed.
func (p *publisher) drop() {
	for _, one := range p.next.items {
		for _, span := range one.spans {
			span.End()
		}
	}
	p.next = batch{}
}

// again has the memory read again where an error says that the streams hold something
// else.
func (p *publisher) again(err error) error {
	if errors.Is(err, bus.ErrConflict) || errors.Is(err, errChanged) || errors.Is(err, bus.ErrNotFound) {
		p.outdated = true
	}
	return err
}

// refresh reads the memory again where the streams may hold something else, once
// nothing of what failed can be stored any more.
func (p *publisher) refresh(ctx context.Context) error {
	if !p.outdated {
		return nil
	}
	for _, kind := range kinds {
		if err := p.fences[kind].Settle(ctx); err != nil {
			return err
		}
	}
	fresh, err := remember(ctx, p.bus, p.name)
	if err != nil {
		return err
	}
	p.memory, p.outdated = fresh, false
	return nil
}

// published is what is remembered of a publication once it is stored.
func (p *publication) published(sequence uint64) *published {
	return &published{
		sequence: sequence, hash: p.hash, present: !p.removal(), fields: p.fields, manifest: p.change.GetGroup().GetMembers(),
	}
}
