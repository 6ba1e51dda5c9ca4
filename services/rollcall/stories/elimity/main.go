// Command elimity is a SCIM server on github.com/elimity-com/scim, which others wrote:
// paths, schemas, filters, validation and answers are the library's, and what the
// library leaves to its user, the store and the effect of a PATCH, is here. It keeps
// everything in memory, asks for the bearer token in TOKEN, and prints its URL when it
// listens.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/elimity-com/scim"
	"github.com/elimity-com/scim/optional"
	"github.com/elimity-com/scim/schema"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	handler, err := newHandler(os.Getenv("TOKEN"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // listening does not block
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Printf("http://%s/v2\n", listener.Addr()) //nolint:forbidigo // the test reads it
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return fmt.Errorf("serve: %w", server.Serve(listener))
}

var errNoToken = errors.New("TOKEN is empty: set it to the bearer token that clients have to send")

// newHandler is the SCIM service for clients that have a token.
func newHandler(token string) (http.Handler, error) {
	if token == "" {
		return nil, errNoToken
	}
	s := newStore()
	server, err := scim.NewServer(&scim.ServerArgs{
		ServiceProviderConfig: &scim.ServiceProviderConfig{
			MaxResults: 100, SupportFiltering: true, SupportPatch: true,
			AuthenticationSchemes: []scim.AuthenticationScheme{{Type: scim.AuthenticationTypeOauthBearerToken, Name: "Bearer token", Description: "A bearer token", Primary: true}},
		},
		ResourceTypes: []scim.ResourceType{
			{
				ID: optional.NewString("User"), Name: "User", Endpoint: "/Users", Schema: schema.CoreUserSchema(),
				SchemaExtensions: []scim.SchemaExtension{{Schema: schema.ExtensionEnterpriseUser()}},
				Handler:          &collection{store: s, resources: s.users, schema: schema.CoreUserSchema(), unique: "userName"},
			},
			{
				ID: optional.NewString("Group"), Name: "Group", Endpoint: "/Groups", Schema: schema.CoreGroupSchema(),
				Handler: &collection{store: s, resources: s.groups, schema: schema.CoreGroupSchema()},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the SCIM server: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"401","detail":"wrong or missing token"}`, http.StatusUnauthorized)
			return
		}
		server.ServeHTTP(w, r)
	}), nil
}
