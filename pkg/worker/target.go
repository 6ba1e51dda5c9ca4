package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
func NewTarget(c *connection.Connection) (*scim.Client, error) { return newTarget(c, false, nil) }

// NewReader makes a client that sends nothing but reads, and follows the profile
// alone; see NewInformedReader.
func NewReader(c *connection.Connection) (*scim.Client, error) { return newTarget(c, true, nil) }

func newTarget(c *connection.Connection, readOnly bool, transport http.RoundTripper) (*scim.Client, error) {
	cfg, err := targetConfig(c)
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly, cfg.Transport = readOnly, transport
	return scim.New(cfg)
}

func targetConfig(c *connection.Connection) (scim.Config, error) {
	profile, ok := c.Target.Ways()
	if !ok {
		return scim.Config{}, fmt.Errorf("unknown profile %q", c.Target.Profile)
	}
	var proxy *url.URL
	if c.Target.Proxy != "" {
		var err error
		if proxy, err = url.Parse(c.Target.Proxy); err != nil {
			return scim.Config{}, fmt.Errorf("read target.proxy: %w", err)
		}
	}
	settings, files := secured(&c.Target)
	observe, err := observer(c.Name)
	if err != nil {
		return scim.Config{}, err
	}
	return scim.Config{
		URL: c.Target.URL, Profile: profile, Auth: auth(c.Target.Auth), Concurrency: c.Target.Concurrency,
		RequestsPerSecond: c.Target.Rate.RequestsPerSecond, Burst: c.Target.Rate.Burst, TLS: settings, TLSFiles: files, Proxy: proxy, Observe: observe,
		UsersPath: c.Target.UsersPath, GroupsPath: c.Target.GroupsPath,
	}, nil
}

func auth(a connection.Auth) scim.Auth {
	switch {
	case a.Bearer != nil:
		return scim.Bearer{Scheme: a.Bearer.Scheme, Token: a.Bearer.Token.Resolve}
	case a.Basic != nil:
		return scim.Basic{Username: a.Basic.Username, Password: a.Basic.Password.Resolve}
	case a.Header != nil:
		return scim.Header{Name: a.Header.Name, Value: a.Header.Value.Resolve}
	case a.OAuth2 != nil:
		o := a.OAuth2
		return scim.NewClientCredentials(scim.OAuth2{
			TokenURL: o.TokenURL, ClientID: o.ClientID, ClientSecret: o.ClientSecret.Resolve, Scopes: o.Scopes, Audience: o.Audience, InBody: o.Style == "body",
		})
	default:
		return scim.None{}
	}
}

var errNoCertificate = errors.New("no certificate in the file")

// secured are the TLS settings of a target, and the files that they come from.
func secured(t *connection.Target) (settings func() (*tls.Config, error), files []string) {
	certificate, key := "", ""
	if own := t.Auth.MutualTLS; own != nil {
		certificate, key = own.Certificate, own.Key
	}
	for _, file := range []string{t.CAFile, certificate, key} {
		if file != "" {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	return func() (*tls.Config, error) {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if t.CAFile != "" {
			pem, err := os.ReadFile(t.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read ca_file: %w", err)
			}
			cfg.RootCAs = x509.NewCertPool()
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("read ca_file %s: %w", t.CAFile, errNoCertificate)
			}
		}
		if certificate != "" {
			pair, err := tls.LoadX509KeyPair(certificate, key)
			if err != nil {
				return nil, fmt.Errorf("read auth.mtls: %w", err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		return cfg, nil
	}, files
}

// observer counts the calls to a target.
func observer(name string) (func(context.Context, scim.Call), error) {
	meter := otel.Meter(Scope)
	calls, err := meter.Int64Counter(MetricCalls, metric.WithDescription("HTTP requests to the target, by method and status."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	duration, err := meter.Float64Histogram(MetricCallDuration, metric.WithUnit("s"), metric.WithDescription("Duration of HTTP requests to the target."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10))
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
