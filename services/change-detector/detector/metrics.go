package detector

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Names of the detector's metrics.
const (
	MetricPublished      = "rollcall.changes.published"
	MetricPassDuration   = "rollcall.pass.duration"
	MetricEntries        = "rollcall.entries"
	MetricHeld           = "rollcall.held"
	MetricLease          = "rollcall.lease"
	MetricSessionsFailed = "rollcall.sessions.failed"
	MetricOutage         = "rollcall.source.outage"
)

// Scope is the instrumentation scope of this package.
const Scope = "github.com/rollcall-scim/rollcall/services/change-detector/detector"

type metrics struct {
	source        attribute.KeyValue
	publishedC    metric.Int64Counter
	passDuration  metric.Float64Histogram
	entries       metric.Int64Gauge
	failed        metric.Int64Counter
	lease         metric.Int64Gauge
	held          atomic.Int64
	heldObserving metric.Int64ObservableGauge
}

func newMetrics(source string) (*metrics, error) {
	meter := otel.Meter(Scope)
	m := &metrics{source: attribute.String("rollcall.source", source)}
	var errs [6]error
	m.publishedC, errs[0] = meter.Int64Counter(MetricPublished, metric.WithDescription("Changes published, by kind."))
	m.passDuration, errs[1] = meter.Float64Histogram(MetricPassDuration, metric.WithUnit("s"),
		metric.WithDescription("Duration of full passes over a source."), metric.WithExplicitBucketBoundaries(.01, .05, .1, .5, 1, 5, 10, 30, 60, 300))
	m.entries, errs[2] = meter.Int64Gauge(MetricEntries, metric.WithDescription("Entries in scope, by kind."))
	m.failed, errs[3] = meter.Int64Counter(MetricSessionsFailed, metric.WithDescription("Directory sessions that ended with an error."))
	m.lease, errs[5] = meter.Int64Gauge(MetricLease, metric.WithDescription("1 where this replica watches the source, 0 where another one does."))
	m.heldObserving, errs[4] = meter.Int64ObservableGauge(MetricHeld, metric.WithDescription("Entries of which the guard holds something for a person."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(m.held.Load(), metric.WithAttributes(m.source))
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	return m, nil
}

// observeOutage shows for how long the source has not been followed, as any replica of
// the detector noted it, until the caller calls what it returns.
func (m *metrics) observeOutage(b *bus.Bus, name string) (func(), error) {
	meter := otel.Meter(Scope)
	gauge, err := meter.Float64ObservableGauge(MetricOutage, metric.WithUnit("s"),
		metric.WithDescription("Time since which the source is not followed, by reason: unreachable, credentials, configuration, failed; 0 while it is."))
	if err != nil {
		return nil, fmt.Errorf("observe outages: %w", err)
	}
	r, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		pass, err := status.LastPass(ctx, b, name)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		for _, reason := range status.OutageReasons {
			seconds := 0.0
			if pass.Outage != nil && pass.Outage.Reason == reason {
				seconds = time.Since(pass.Outage.Since).Seconds()
			}
			o.ObserveFloat64(gauge, seconds, metric.WithAttributes(m.source, attribute.String("rollcall.reason", string(reason))))
		}
		return nil
	}, gauge)
	if err != nil {
		return nil, fmt.Errorf("observe outages: %w", err)
	}
	return func() { _ = r.Unregister() }, nil
}

// begin counts nothing, so that the first failure is an increase.
func (m *metrics) begin(ctx context.Context) {
	m.failed.Add(ctx, 0, metric.WithAttributes(m.source))
	m.holds(ctx, 0)
}

// holds says whether this replica holds the source's lease: 1, or 0.
func (m *metrics) holds(ctx context.Context, lease int64) {
	m.lease.Record(ctx, lease, metric.WithAttributes(m.source))
}

func (m *metrics) setHeld(n int64) { m.held.Store(n) }

func (m *metrics) published(ctx context.Context, kind directoryv1.Kind, n int) {
	m.publishedC.Add(ctx, int64(n), metric.WithAttributes(m.source, attribute.String("rollcall.kind", kind.Token())))
}

func (m *metrics) sessionFailed(ctx context.Context) {
	m.failed.Add(ctx, 1, metric.WithAttributes(m.source))
}

func (m *metrics) pass(ctx context.Context, took time.Duration, users, groups int) {
	m.passDuration.Record(ctx, took.Seconds(), metric.WithAttributes(m.source))
	m.entries.Record(ctx, int64(users), metric.WithAttributes(m.source, attribute.String("rollcall.kind", "users")))
	m.entries.Record(ctx, int64(groups), metric.WithAttributes(m.source, attribute.String("rollcall.kind", "groups")))
}
