// Package scim is a SCIM 2.0 client (RFC 7643, RFC 7644) for keeping the users
// and groups of a target in the state that somebody else decided. It knows paths,
// values, PATCH operations, look-ups that cannot be injected into, listings that
// prove to be complete, and what an error means for the next step. It decides
// nothing: what to send is the caller's business.
package scim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-scim/rollcall/pkg/failpoint"
)

// DefaultTimeout is how long an HTTP request to a target may last, where Config says
// nothing.
const DefaultTimeout = 15 * time.Second

const (
	instrumentation    = "github.com/rollcall-scim/rollcall/pkg/scim"
	defaultConcurrency = 16
	defaultUserAgent   = "rollcall"
)

// Config says where a target is and how to call it. Only URL is required.
type Config struct {
	URL               string // base URL; the endpoints are appended to it
	Profile           Profile
	Auth              Auth          // nil: none
	Concurrency       int           // calls in flight; 16 when 0
	RequestsPerSecond float64       // 0: no limit
	Burst             int           // at least 1 when there is a limit
	Timeout           time.Duration // of each HTTP request; 15 s when 0
	// TLS makes the settings; nil: the system's roots. TLS 1.2 at least. It is asked
	// again when one of TLSFiles has changed.
	TLS      func() (*tls.Config, error)
	TLSFiles []string
	Proxy    *url.URL // nil: as the environment says
	// Transport carries the requests instead of connections of the client's own, where it
	// is set; TLS and Proxy are not used then.
	Transport  http.RoundTripper
	ReadOnly   bool // nothing but reads is sent; everything else is ErrRefused
	UserAgent  string
	UsersPath  string // "/Users" when empty
	GroupsPath string // "/Groups" when empty
	// Limiter bounds the rate; nil: the client's own, by the numbers above.
	Limiter Limiter
	// Slots bounds the calls in flight; nil: the client's own.
	Slots Slots
	// Admit is asked right before each HTTP request; an error is returned instead of
	// sending it. One that wraps ErrWait is not tried again.
	Admit func(ctx context.Context) error
	// Observe is called after each HTTP request, also the ones that are retried.
	Observe func(ctx context.Context, call Call)
	// Learned is told what the target's answers show of it; see Profile.With and Follow.
	Learned func(Learned)
}

// Call is one HTTP request, for metrics. It holds no personal data.
type Call struct {
	Method   string
	Route    string // "/Users/{id}"
	Status   int    // 0: no answer
	Duration time.Duration
	Err      error
}

// Client calls one target. It is safe for concurrent use; its limits hold over
// all callers.
type Client struct {
	cfg     Config
	profile *atomic.Pointer[Profile]
	base    *url.URL
	http    *http.Client
	tracer  trace.Tracer
	walks   *walks
	// patient calls outwait a target that does not want to be called.
	patient bool
}

// New checks the configuration and makes a client. It sends nothing.
func New(cfg Config) (*Client, error) {
	base, err := checkConfig(&cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Limiter == nil {
		cfg.Limiter = newOwnLimiter(Rate{RequestsPerSecond: cfg.RequestsPerSecond, Burst: cfg.Burst}, cfg.Profile.Rates)
	}
	if cfg.Slots == nil {
		cfg.Slots = make(ownSlots, cfg.Concurrency)
	}
	client, err := newHTTPClient(cfg)
	if err != nil {
		return nil, err
	}
	if own, ok := cfg.Auth.(*ClientCredentials); ok {
		own.http = client
	}
	c := &Client{cfg: cfg, profile: new(atomic.Pointer[Profile]), base: base, http: client, tracer: otel.Tracer(instrumentation), walks: newWalks()}
	c.profile.Store(&cfg.Profile)
	return c, nil
}

// checkConfig reports all faults at once and fills the defaults.
func checkConfig(cfg *Config) (*url.URL, error) {
	var faults []error
	base, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		faults = append(faults, errors.New("target.url: must be a URL, such as https://wiki.example.com/scim/v2"))
	case base.Scheme != "https" && base.Scheme != "http", base.Host == "":
		faults = append(faults, errors.New("target.url: must be https://host/path"))
	case base.User != nil:
		faults = append(faults, errors.New("target.url: must not hold credentials; use target.auth"))
	case base.RawQuery != "" || base.Fragment != "":
		faults = append(faults, errors.New("target.url: must not have a query or fragment"))
	}
	if cfg.Concurrency < 0 || cfg.RequestsPerSecond < 0 || cfg.Timeout < 0 || cfg.Burst < 0 {
		faults = append(faults, errors.New("target: concurrency, rate and timeout must not be negative"))
	}
	if err := checkAuth(cfg.Auth); err != nil {
		faults = append(faults, err)
	}
	cfg.setDefaults()
	return base, errors.Join(faults...)
}

func (cfg *Config) setDefaults() {
	cfg.Profile = cfg.Profile.withDefaults()
	if cfg.Auth == nil {
		cfg.Auth = None{}
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = failpoint.Scale(DefaultTimeout)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = cmp.Or(cfg.Profile.UserAgent, defaultUserAgent)
	}
	if cfg.UsersPath == "" {
		cfg.UsersPath = "/Users"
	}
	if cfg.GroupsPath == "" {
		cfg.GroupsPath = "/Groups"
	}
}

// Profile is the target's profile as it is now, with its defaults filled in.
func (c *Client) Profile() Profile { return *c.profile.Load() }

// Follow makes the client follow another profile from now on: more is known of the
// target. Rates stay as they are.
func (c *Client) Follow(p Profile) {
	p = p.withDefaults()
	c.profile.Store(&p)
}

// Patient is the client for long work that would begin anew after a failure, such as
// a listing of everything: when the target, or the rate that all callers share, has it
// wait for longer than a call may last, it waits and tries again. It has no connections
// of its own to close.
func (c *Client) Patient() *Client {
	patient := *c
	patient.patient = true
	return &patient
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Create makes a resource. It is sent again only when nothing of it can have
// reached the target; after an ambiguous error look the resource up first.
func (c *Client) Create(ctx context.Context, kind Kind, body map[string]any) (*Resource, error) {
	if n := len(list(body["members"])); n > c.Profile().MaxMembersOnCreate {
		return nil, tooMany(n, c.Profile().MaxMembersOnCreate)
	}
	req, err := c.write(http.MethodPost, kind, "", c.Profile().flagged(kind, withSchema(kind, body)))
	if err != nil {
		return nil, err
	}
	return c.read(ctx, req)
}

// read sends a request whose answer is a resource.
func (c *Client) read(ctx context.Context, req *request) (*Resource, error) {
	resp, err := c.do(ctx, req)
	if err != nil {
		return nil, err
	}
	r, err := decodeResource(resp.body)
	if err != nil {
		return nil, req.failed(resp, err)
	}
	return r, nil
}

// withSchema adds the kind's schema to a body that names none.
func withSchema(kind Kind, body map[string]any) map[string]any {
	if body["schemas"] != nil {
		return body
	}
	out := map[string]any{"schemas": schemasOf(kind, body)}
	maps.Copy(out, body)
	return out
}

// Get reads one resource.
func (c *Client) Get(ctx context.Context, kind Kind, id string, opts ...ReadOption) (*Resource, error) {
	req, err := c.resource(http.MethodGet, kind, id)
	if err != nil {
		return nil, err
	}
	for _, opt := range opts {
		opt(req.query)
	}
	return c.read(ctx, req)
}

// ReadOption changes what a read returns.
type ReadOption func(query url.Values)

// Only asks for these attributes alone.
func Only(attributes ...string) ReadOption {
	return func(query url.Values) { setList(query, "attributes", attributes) }
}

// Without asks for everything but these attributes.
func Without(attributes ...string) ReadOption {
	return func(query url.Values) { setList(query, "excludedAttributes", attributes) }
}

// Patch changes a resource. The answer is nil when the target sent none; otherwise it
// shows what the resource holds now. An error that IsUnproven means that the target
// answered as if it had been done, with something that does not show it.
func (c *Client) Patch(ctx context.Context, kind Kind, id string, ops []Operation) (*Resource, error) {
	body, err := patchBody(ops, c.Profile())
	if err != nil {
		return nil, err
	}
	if n := changesMembers(ops); kind == KindGroup && n > c.Profile().MaxMembersPerRequest {
		return nil, tooMany(n, c.Profile().MaxMembersPerRequest)
	}
	return c.change(ctx, http.MethodPatch, kind, id, body)
}

func tooMany(n, limit int) error {
	return fmt.Errorf("%w: %d members in one request, the profile allows %d", ErrRefused, n, limit)
}

// Put replaces a resource. The answer is nil when the target sent none.
func (c *Client) Put(ctx context.Context, kind Kind, id string, body map[string]any) (*Resource, error) {
	return c.change(ctx, http.MethodPut, kind, id, c.Profile().flagged(kind, withSchema(kind, body)))
}

// change sends a write that the target may answer with the resource or without.
func (c *Client) change(ctx context.Context, method string, kind Kind, id string, body map[string]any) (*Resource, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	req, err := c.write(method, kind, id, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, req)
	if err != nil {
		c.learn(method, kind, err)
		return nil, err
	}
	if kind == KindGroup && len(resp.body) > maxGroupEcho {
		return nil, nil //nolint:nilnil // done; the answer holds very many members, and nobody needs them
	}
	r, err := decodeResource(resp.body)
	if err != nil || r.ID == "" {
		return nil, nil //nolint:nilerr,nilnil // done; the target did not say what became of it
	}
	return r, nil
}

// Delete removes a resource; one that is not there is success, when the SCIM service
// itself says so.
func (c *Client) Delete(ctx context.Context, kind Kind, id string) error {
	req, err := c.resource(http.MethodDelete, kind, id)
	if err != nil {
		return err
	}
	if _, err = c.do(ctx, req); err != nil && !IsNotFound(err) {
		return err
	}
	return nil
}
