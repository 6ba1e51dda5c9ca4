package worker

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// MetricPaused is 1 while a connection is paused, for the reason.
const MetricPaused = "rollcall.paused"

// observePaused reports a breaker's pause whenever metrics are collected.
func observePaused(b *Breaker) (stop func(), err error) {
	meter := otel.Meter(Scope)
	gauge, err := meter.Int64ObservableGauge(MetricPaused, metric.WithDescription("1 while the connection is paused, by reason: manual, outage, credentials."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	r, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		is := b.paused().GetReason()
		for _, reason := range []provisioningv1.PauseReason{
			provisioningv1.PauseReason_PAUSE_REASON_MANUAL, provisioningv1.PauseReason_PAUSE_REASON_OUTAGE, provisioningv1.PauseReason_PAUSE_REASON_CREDENTIALS,
		} {
			value := int64(0)
			if is == reason {
				value = 1
			}
			o.ObserveInt64(gauge, value, metric.WithAttributes(
				attribute.String("rollcall.connection", b.connection), attribute.String("rollcall.reason", PauseReason(reason))))
		}
		return nil
	}, gauge)
	if err != nil {
		return nil, fmt.Errorf("observe pauses: %w", err)
	}
	return func() { _ = r.Unregister() }, nil
}
