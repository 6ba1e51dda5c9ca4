package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Names of the metrics about calls to a target.
const (
	MetricCalls        = "rollcall.target.calls"
	MetricCallDuration = "rollcall.target.call.duration"
)

// NewTarget makes the SCIM client of a connection's target.
func NewTarget(c *connection.Connection) (*scim.Client, error) { return newTarget(c, false) }

// NewReader makes a client that sends nothing but reads.
func NewReader(c *connection.Connection) (*scim.Client, error) { return newTarget(c, true) }

func newTarget(c *connection.Connection, readOnly bool) (*scim.Client, error) {
	cfg, err := targetConfig(c)
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly = readOnly
	return scim.New(cfg)
}

func targetConfig(c *connection.Connection) (scim.Config, error) {
	profile, ok := c.Target.Ways()
	if !ok {
		return scim.Config{}, fmt.Errorf("unknown profile %q", c.Target.Profile)
	}
	roots, err := tlsConfig(c.Target.CAFile)
	if err != nil {
		return scim.Config{}, err
	}
	observe, err := observer(c.Name)
	if err != nil {
		return scim.Config{}, err
	}
	return scim.Config{
		URL: c.Target.URL, Profile: profile, Auth: auth(c.Target.Auth), Concurrency: c.Target.Concurrency,
		RequestsPerSecond: c.Target.Rate.RequestsPerSecond, Burst: c.Target.Rate.Burst, TLS: roots, Observe: observe,
		UsersPath: c.Target.UsersPath, GroupsPath: c.Target.GroupsPath,
	}, nil
}

func auth(a connection.Auth) scim.Auth {
	switch {
	case a.Bearer != nil:
		return scim.Bearer{Token: a.Bearer.Token.Resolve}
	case a.Basic != nil:
		return scim.Basic{Username: a.Basic.Username, Password: a.Basic.Password.Resolve}
	default:
		return scim.None{}
	}
}

var errNoCertificate = errors.New("no certificate in the file")

func tlsConfig(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil //nolint:nilnil // nil means the system's roots
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // named by the operator's configuration
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca_file %s: %w", caFile, errNoCertificate)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// observer counts the calls to a target.
func observer(name string) (func(context.Context, scim.Call), error) {
	meter := otel.Meter(Scope)
	calls, err := meter.Int64Counter(MetricCalls, metric.WithDescription("HTTP requests to the target, by method and status."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	duration, err := meter.Float64Histogram(MetricCallDuration, metric.WithUnit("s"), metric.WithDescription("Duration of HTTP requests to the target."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	connectionName := attribute.String("rollcall.connection", name)
	return func(ctx context.Context, call scim.Call) {
		attributes := metric.WithAttributes(connectionName, attribute.String("http.request.method", call.Method),
			attribute.String("url.template", call.Route), attribute.Int("http.response.status_code", call.Status))
		calls.Add(ctx, 1, attributes)
		duration.Record(ctx, call.Duration.Seconds(), attributes)
	}, nil
}
