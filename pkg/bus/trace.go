package bus

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Attribute keys of the spans that have no semantic convention.
const (
	attrEntry   = "rollcall.entry.id"
	attrVerdict = "rollcall.verdict"
	attrAttempt = "messaging.nats.delivery_attempt"
)

var propagator = propagation.TraceContext{}

// StartCreate opens the span of one message's creation and writes its context
// into the message's headers, so that whoever processes it continues the trace.
// The caller ends the span when the message is stored.
func (b *Bus) StartCreate(ctx context.Context, stream string, m *Message) trace.Span {
	ctx, span := b.tracer.Start(ctx, "send "+stream, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		messagingSystem, semconv.MessagingDestinationName(stream), semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend))
	if m.Header == nil {
		m.Header = map[string]string{}
	}
	propagator.Inject(ctx, propagation.MapCarrier(m.Header))
	return span
}

var messagingSystem = semconv.MessagingSystemKey.String("nats")

// startProcess opens the span of one delivery. The first delivery of a change is
// a child of its creation; a retry or a request is a new root with a link.
func (b *Bus) startProcess(ctx context.Context, d *Delivery) (context.Context, trace.Span) {
	remote := trace.SpanContextFromContext(propagator.Extract(context.Background(), propagation.MapCarrier(d.Header)))
	stream := provisioningv1.StreamRequests
	var entry string
	if kind, id, err := d.Entry(); err == nil {
		entry = hex.EncodeToString(id)
		if !d.Request {
			stream = kind.Stream()
		}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		messagingSystem, semconv.MessagingDestinationName(stream), semconv.MessagingOperationName("process"),
		semconv.MessagingOperationTypeProcess, attribute.String(attrEntry, entry), attribute.Int64(attrAttempt, int64(min(d.Attempt, 1<<31))))}
	if remote.IsValid() && d.Attempt == 1 && !d.Request {
		ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
	} else if remote.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: remote}))
	}
	return b.tracer.Start(ctx, "process "+stream, options...)
}

func endProcess(span trace.Span, v Verdict, err error) {
	span.SetAttributes(attribute.String(attrVerdict, string(v)))
	if err != nil && (v == Retry || v == Parked) {
		span.SetStatus(codes.Error, string(v)) // without the error's words: they may name a person
	}
	span.End()
}
