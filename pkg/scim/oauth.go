package scim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// OAuth2 is how to get a token by the client credentials grant (RFC 6749 section
// 4.4).
type OAuth2 struct {
	TokenURL     string
	ClientID     string
	ClientSecret func() (string, error)
	Scopes       []string
	Audience     string // sent when not empty
	InBody       bool   // send id and secret in the body, not in the header
}

const (
	// tokenMargin is how long before its end a token is not used any more; half of its
	// life for one that does not live long.
	tokenMargin = 30 * time.Second
	// renewPause is how soon a token that was just made is not made anew, whatever the
	// target says of it.
	renewPause = 10 * time.Second
)

// ClientCredentials keeps a token until it ends, for all calls of a client. Several
// calls that need a new one at a time ask for it once.
type ClientCredentials struct {
	cfg  OAuth2
	http *http.Client // of the client that it is given to

	mu    sync.Mutex
	token *oauth2.Token
	made  time.Time
	until time.Time // when it is not used any more; zero: never
}

// NewClientCredentials asks for no token yet.
func NewClientCredentials(cfg OAuth2) *ClientCredentials { return &ClientCredentials{cfg: cfg} }

func (c *ClientCredentials) authorize(req *http.Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == nil || !c.until.IsZero() && time.Now().After(c.until) {
		if err := c.ask(req.Context()); err != nil {
			return err
		}
	}
	c.token.SetAuthHeader(req)
	return nil
}

// renew drops the token that a refused call bore, and says whether another try makes
// sense: a token that was made a moment ago is not the reason.
func (c *ClientCredentials) renew(bore string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == nil || header(c.token) != bore {
		return true // somebody else has a new one
	}
	if time.Since(c.made) < renewPause {
		return false
	}
	c.token = nil
	return true
}

// header is the Authorization header of a token.
func header(t *oauth2.Token) string { return t.Type() + " " + t.AccessToken }

// ask asks for a token; c.mu is held, so that others wait for it.
func (c *ClientCredentials) ask(ctx context.Context) error {
	secret, err := c.cfg.ClientSecret()
	if err != nil {
		return fmt.Errorf("read the client's secret: %w", err)
	}
	cfg := clientcredentials.Config{
		ClientID: c.cfg.ClientID, ClientSecret: strings.TrimSpace(secret), TokenURL: c.cfg.TokenURL, Scopes: c.cfg.Scopes,
		AuthStyle: oauth2.AuthStyleInHeader, EndpointParams: url.Values{},
	}
	if c.cfg.InBody {
		cfg.AuthStyle = oauth2.AuthStyleInParams
	}
	if c.cfg.Audience != "" {
		cfg.EndpointParams.Set("audience", c.cfg.Audience)
	}
	token, err := cfg.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
	if err != nil {
		return tokenError(err)
	}
	c.token, c.made, c.until = token, time.Now(), token.Expiry
	if !c.until.IsZero() {
		c.until = c.until.Add(-min(tokenMargin, time.Until(c.until)/2))
	}
	return nil
}

// tokenError is the error of a token endpoint, of which nothing is shown but the
// status and the code: the answer may hold what was sent. A client that is refused is
// as credentials that the target refuses.
func tokenError(err error) error {
	refused, answered := errors.AsType[*oauth2.RetrieveError](err)
	if !answered {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return fmt.Errorf("ask for a token: %w", err)
	}
	status := 0
	if refused.Response != nil {
		status = refused.Response.StatusCode
	}
	failure := &Error{Detail: fmt.Sprintf("the token endpoint answers %d %s; check auth.oauth2_client_credentials", status, cleaned(refused.ErrorCode, 40))}
	if status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
		failure.Status = http.StatusUnauthorized
	}
	return failure
}
