package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Names of the workers' metrics.
const (
	MetricLatency    = "rollcall.change.latency"
	MetricOutcomes   = "rollcall.outcomes"
	MetricUnchanged  = "rollcall.changes.unchanged"
	MetricVerdicts   = "rollcall.verdicts"
	MetricBacklog    = "rollcall.backlog"
	MetricBacklogAge = "rollcall.backlog.age"
	MetricViolations = "rollcall.invariant.violations"
)

// Scope is the instrumentation scope of this package's metrics.
const Scope = "github.com/rollcall-scim/rollcall/pkg/worker"

type metrics struct {
	base      []attribute.KeyValue
	latency   metric.Float64Histogram
	outcomes  metric.Int64Counter
	same      metric.Int64Counter
	verdicts  metric.Int64Counter
	broken    metric.Int64Counter
	backlog   metric.Int64ObservableGauge
	age       metric.Float64ObservableGauge
	backlogOf metric.MeasurementOption
}

func newMetrics(cfg Config) (*metrics, error) {
	meter := otel.Meter(Scope)
	m := &metrics{base: []attribute.KeyValue{
		attribute.String("rollcall.connection", cfg.Connection), attribute.String("rollcall.kind", cfg.Kind.Token()),
	}}
	var errs [7]error
	m.age, errs[5] = meter.Float64ObservableGauge(MetricBacklogAge, metric.WithUnit("s"),
		metric.WithDescription("Time that the oldest change has waited that is not applied yet, under this configuration; 0 when all are."))
	m.latency, errs[0] = meter.Float64Histogram(MetricLatency, metric.WithUnit("s"),
		metric.WithDescription("Time from the detection of a change, or from the configuration that it is new to, to the target's confirmation."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600))
	m.outcomes, errs[1] = meter.Int64Counter(MetricOutcomes, metric.WithDescription("What was done about changes, by action and result."))
	m.same, errs[2] = meter.Int64Counter(MetricUnchanged, metric.WithDescription("Changes that needed no call to the target."))
	m.verdicts, errs[3] = meter.Int64Counter(MetricVerdicts, metric.WithDescription("How deliveries ended: ack, later, park, hold, retry."))
	m.backlog, errs[4] = meter.Int64ObservableGauge(MetricBacklog, metric.WithDescription("Entries that are not applied yet."))
	m.broken, errs[6] = meter.Int64Counter(MetricViolations,
		metric.WithDescription("Entries that were parked because an invariant is broken: sequence, owner, claim, acknowledged."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	m.backlogOf = metric.WithAttributes(m.base...)
	for action := range provisioningv1.Action_name { // so that the first one that is parked is an increase
		m.outcomes.Add(context.Background(), 0, m.of(provisioningv1.Action(action), provisioningv1.Result_RESULT_PARKED))
	}
	for _, invariant := range invariants { // likewise
		m.broken.Add(context.Background(), 0, m.with(attribute.String("rollcall.invariant", invariant)))
	}
	return m, nil
}

func (m *metrics) violation(ctx context.Context, invariant string) {
	m.broken.Add(ctx, 1, m.with(attribute.String("rollcall.invariant", invariant)))
}

// observeBacklog asks the server for the backlog whenever metrics are collected.
func (m *metrics) observeBacklog(b *bus.Bus, cfg Config) (stop func(), err error) {
	consumer := ChangesConsumer(cfg.Kind, cfg.Connection, cfg.Hash)
	r, err := otel.Meter(Scope).RegisterCallback(func(collect context.Context, o metric.Observer) error {
		backlog, err := b.Backlog(collect, cfg.Kind.Stream(), consumer)
		if errors.Is(err, bus.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		postponed, since, err := b.Postponed(collect, cfg.Kind, cfg.Connection)
		if err != nil {
			return err
		}
		o.ObserveInt64(m.backlog, int64(backlog.Total()+postponed), m.backlogOf) //nolint:gosec // a number of entries
		oldest, err := b.Oldest(collect, cfg.Kind.Stream(), directoryv1.EntryFilter(cfg.Kind, cfg.Source), backlog)
		if err != nil {
			return err
		}
		if oldest.IsZero() || !since.IsZero() && since.Before(oldest) {
			oldest = since
		}
		age := 0.0
		if !oldest.IsZero() {
			age = time.Since(oldest).Seconds()
		}
		o.ObserveFloat64(m.age, age, m.backlogOf)
		return nil
	}, m.backlog, m.age)
	if err != nil {
		return nil, fmt.Errorf("observe backlog: %w", err)
	}
	return func() { _ = r.Unregister() }, nil
}

func (m *metrics) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(append([]attribute.KeyValue{}, m.base...), more...)...)
}

func (m *metrics) verdict(v bus.Verdict) {
	m.verdicts.Add(context.Background(), 1, m.with(attribute.String("rollcall.verdict", string(v))))
}

func (m *metrics) unchanged(ctx context.Context) { m.same.Add(ctx, 1, m.with()) }

func (m *metrics) outcome(ctx context.Context, o *provisioningv1.Outcome) {
	m.outcomes.Add(ctx, 1, m.of(o.GetAction(), o.GetResult()))
	if o.GetResult() == provisioningv1.Result_RESULT_APPLIED {
		m.latency.Record(ctx, time.Duration(o.GetLatencyNanos()).Seconds(), m.with())
	}
}

func (m *metrics) of(action provisioningv1.Action, result provisioningv1.Result) metric.MeasurementOption {
	return m.with(attribute.String("rollcall.action", ActionName(action)), attribute.String("rollcall.result", ResultName(result)))
}

// ActionName is an action in one lower-case word.
func ActionName(a provisioningv1.Action) string {
	return strings.ToLower(strings.TrimPrefix(a.String(), "ACTION_"))
}

// ResultName is a result in lower-case words.
func ResultName(r provisioningv1.Result) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "RESULT_"))
}
