// Package telemetry is the only user of the OpenTelemetry SDK: it sets up traces
// over OTLP, metrics for a Prometheus endpoint and the process's logger. The other
// packages use the OpenTelemetry API alone.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
)

// Config says where traces, metrics and logs go.
type Config struct {
	// Service is the name under which everything is reported.
	Service, Version string
	// OTLPEndpoint is the base URL of a collector that takes OTLP over HTTP; empty
	// means that no traces are sent.
	OTLPEndpoint string
	// SampleRatio is the share of traces that are kept, 0 to 1.
	SampleRatio float64
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// LogFormat is text, json, or auto: text on a terminal, json elsewhere.
	LogFormat string
}

// Telemetry is what Setup started.
type Telemetry struct {
	// Log is the process's logger; its lines carry the trace they belong to.
	Log      *slog.Logger
	registry *prometheus.Registry
	closers  []func(context.Context) error
}

// Setup starts telemetry and makes it the process's own. Close flushes it.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	t := &Telemetry{Log: newLog(os.Stderr, cfg), registry: prometheus.NewRegistry()}
	self, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		semconv.ServiceName(cfg.Service), semconv.ServiceVersion(cfg.Version)))
	if err != nil {
		return nil, fmt.Errorf("describe this service: %w", err)
	}
	if err := t.metrics(ctx, cfg, self); err != nil {
		return nil, err
	}
	if err := t.traces(ctx, cfg, self); err != nil {
		return nil, err
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { t.Log.WarnContext(ctx, "telemetry", "error", err) }))
	return t, nil
}

func (t *Telemetry) metrics(ctx context.Context, cfg Config, self *resource.Resource) error {
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(t.registry))
	if err != nil {
		return fmt.Errorf("start the Prometheus exporter: %w", err)
	}
	options := []metric.Option{metric.WithReader(exporter), metric.WithResource(self)}
	if cfg.OTLPEndpoint != "" {
		pushed, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(cfg.OTLPEndpoint+"/v1/metrics"))
		if err != nil {
			return fmt.Errorf("open telemetry.otlp_endpoint: %w", err)
		}
		options = append(options, metric.WithReader(metric.NewPeriodicReader(pushed)))
	}
	provider := metric.NewMeterProvider(options...)
	otel.SetMeterProvider(provider)
	t.closers = append(t.closers, provider.Shutdown)
	return nil
}

func (t *Telemetry) traces(ctx context.Context, cfg Config, self *resource.Resource) error {
	if cfg.OTLPEndpoint == "" {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.OTLPEndpoint+"/v1/traces"))
	if err != nil {
		return fmt.Errorf("open telemetry.otlp_endpoint: %w", err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(self),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(cfg.SampleRatio))))
	otel.SetTracerProvider(provider)
	t.closers = append(t.closers, provider.Shutdown)
	return nil
}

// Metrics serves the metrics in Prometheus' format.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}

// Close sends what is not sent yet.
func (t *Telemetry) Close(ctx context.Context) error {
	var errs []error
	for _, closer := range t.closers {
		errs = append(errs, closer(ctx))
	}
	return errors.Join(errs...)
}
