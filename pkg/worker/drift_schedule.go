package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// MetricDrift is the name of the metric of what differs.
const MetricDrift = "rollcall.drift"

const (
	driftLease = 30 * time.Second
	// driftRetry is how soon a comparison that failed is tried again, at most.
	driftRetry = 15 * time.Minute
)

func driftKey(connection string, kind directoryv1.Kind) string {
	return connection + ".drift." + kind.Token()
}

// LastDrift is the result of the last comparison of a kind, without the single
// findings; bus.ErrNotFound when there was none.
func LastDrift(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind) (*DriftReport, error) {
	text, err := b.Text(ctx, provisioningv1.BucketTargets, driftKey(connection, kind))
	if err != nil {
		return nil, err
	}
	r := &DriftReport{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fmt.Errorf("decode the last comparison of %s: %w", connection, err)
	}
	return r, nil
}

// Keep stores the result of a comparison for `rollcall status` and the schedule. No
// names are kept.
func (d *Drift) Keep(ctx context.Context, r *DriftReport) error {
	short := *r
	short.Findings = nil
	data, err := json.Marshal(short)
	if err != nil {
		return fmt.Errorf("encode the comparison: %w", err)
	}
	return d.worker.deps.Bus.PutText(ctx, provisioningv1.BucketTargets, driftKey(d.connection.Name, d.worker.cfg.Kind), string(data), 0)
}

// Every compares again and again, as drift.interval says, in one replica at a time.
// The first time is one interval after the connection was first seen.
func (d *Drift) Every(ctx context.Context) error {
	interval := d.connection.Drift.Interval
	if interval <= 0 {
		return nil
	}
	d.measure(ctx, &DriftReport{}) // so that the first finding is an increase
	for ctx.Err() == nil {
		due, err := d.due(ctx, interval)
		if err == nil && time.Now().Before(due) {
			pause(ctx, min(time.Until(due), driftRetry))
			continue
		}
		if err == nil {
			key := driftKey(d.connection.Name, d.worker.cfg.Kind) + ".lease"
			err = d.worker.deps.Bus.WithLease(ctx, provisioningv1.BucketTargets, key, d.worker.cfg.Owner, driftLease, func(ctx context.Context) error {
				if due, err := d.due(ctx, interval); err != nil || time.Now().Before(due) {
					return err // another replica was faster
				}
				return crash.Catch(ctx, d.log, crash.Background, func() error { return d.scheduled(ctx) })
			})
		}
		if err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "compare the target with what was applied; trying again later", "error", plain(err))
			pause(ctx, min(interval, driftRetry))
		}
	}
	return nil
}

// due is when the next comparison is to be made.
func (d *Drift) due(ctx context.Context, interval time.Duration) (time.Time, error) {
	last, err := LastDrift(ctx, d.worker.deps.Bus, d.connection.Name, d.worker.cfg.Kind)
	if err == nil {
		return last.At.Add(interval), nil
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return time.Time{}, err
	}
	data, err := json.Marshal(DriftReport{Connection: d.connection.Name, Kind: d.worker.cfg.Kind.Token(), At: time.Now().UTC()})
	if err != nil {
		return time.Time{}, fmt.Errorf("encode the schedule: %w", err)
	}
	_, err = d.worker.deps.Bus.PutTextOnce(ctx, provisioningv1.BucketTargets, driftKey(d.connection.Name, d.worker.cfg.Kind), string(data))
	return time.Now().Add(interval), err
}

// scheduled is one comparison of the schedule.
func (d *Drift) scheduled(ctx context.Context) error {
	over, err := endFirstRun(ctx, d.worker.deps.Bus, d.connection.Name, d.worker.cfg.Hash, d.worker.cfg.Kind, d.connection.DryRun)
	if err != nil {
		return err
	}
	if !over {
		return errFirstRun
	}
	r, err := d.Compare(ctx)
	if err != nil {
		return err
	}
	requested := 0
	if d.connection.Drift.Repair {
		if requested, err = d.Repair(ctx, r); err != nil {
			return err
		}
	}
	if err := d.Keep(ctx, r); err != nil {
		return err
	}
	d.measure(ctx, r)
	args := []any{"compared", r.Compared, "listed", r.Listed, "counts", r.Counts, "pending", r.Pending, "repair_requested", requested}
	if r.Incomplete != "" {
		args = append(args, "incomplete", r.Incomplete)
	}
	if r.Drifted() {
		d.log.WarnContext(ctx, "the target is not as it was left", append(args, "cure", "look at `rollcall drift "+d.connection.Name+"`")...)
	} else {
		d.log.InfoContext(ctx, "compared the target with what was applied", args...)
	}
	return nil
}

// DriftKinds are everything that can be found.
var DriftKinds = []string{DriftMissing, DriftChanged, DriftEnabled, DriftDisabled, DriftMembers, DriftUnapplied, DriftUnknown, DriftDuplicate}

// measure publishes the counts as a metric, also those that are zero.
func (d *Drift) measure(ctx context.Context, r *DriftReport) {
	gauge, err := otel.Meter(Scope).Int64Gauge(MetricDrift, metric.WithDescription("What a target holds other than was last applied, by the last comparison."))
	if err != nil {
		d.log.WarnContext(ctx, "create metrics", "error", err)
		return
	}
	for _, what := range DriftKinds {
		gauge.Record(ctx, int64(r.Counts[what]), d.worker.metrics.with(attribute.String("rollcall.drift", what)))
	}
}
