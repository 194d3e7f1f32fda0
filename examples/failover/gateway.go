package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/bedrocktoken/bedrocktoken"
)

// maxBody is the longest request that is accepted, since all of it is kept in memory
// until a region answers.
const maxBody = 32 << 20

// A gateway sends each tenant's requests with tokens of the tenant's role. It is
// indexed by the hash of the tenant's key, so that the time a look-up takes tells
// nothing about the keys.
type gateway map[[sha256.Size]byte]http.Handler

func newGateway(ctx context.Context, client *sts.Client, tenants []tenant, region, fallback string, base http.RoundTripper) (gateway, error) {
	g := gateway{}
	for _, tenant := range tenants {
		f, err := newFailover(ctx, client, tenant, region, fallback, base)
		if err != nil {
			return nil, err
		}
		g[sha256.Sum256([]byte(tenant.Key))] = &httputil.ReverseProxy{
			Rewrite:       func(*httputil.ProxyRequest) {}, // failover sets the address
			Transport:     f,
			FlushInterval: -1, // pass on each part of a stream as it comes
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				handleError(w, r, tenant.Name, err)
			},
		}
	}
	return g, nil
}

func (g gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		key = r.Header.Get("X-Api-Key")
	}
	handler := g[sha256.Sum256([]byte(key))]
	if handler == nil {
		http.Error(w, "unknown key", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		http.Error(w, "the request's body broke off", http.StatusBadRequest)
		return
	}
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	handler.ServeHTTP(w, r)
}

func handleError(w http.ResponseWriter, r *http.Request, tenant string, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	log.Printf("%s: %v", tenant, err)
	switch {
	case errors.Is(err, bedrocktoken.ErrOutage):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the gateway gets no credentials at the moment", http.StatusServiceUnavailable)
	case errors.Is(err, bedrocktoken.ErrCredentials):
		// Somebody has to act. After 5xx many clients would try again for minutes.
		w.Header().Set("X-Should-Retry", "false")
		http.Error(w, "the gateway has no credentials for this tenant", http.StatusForbidden)
	default:
		http.Error(w, "no region answers", http.StatusBadGateway)
	}
}

// A failover sends a tenant's requests to the first region, and to the second those
// that the first cannot serve.
type failover struct {
	tenant        string
	first, second region
}

type region struct {
	host      string
	transport http.RoundTripper
}

func newFailover(ctx context.Context, client *sts.Client, tenant tenant, first, second string, base http.RoundTripper) (*failover, error) {
	role := stscreds.NewAssumeRoleProvider(client, tenant.Role, func(o *stscreds.AssumeRoleOptions) {
		if tenant.ExternalID != "" {
			o.ExternalID = &tenant.ExternalID
		}
		o.RoleSessionName = tenant.Name
		o.Duration = time.Hour // the most that any role allows
		for key, value := range tenant.Tags {
			o.Tags = append(o.Tags, types.Tag{Key: &key, Value: &value})
		}
	})
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(first),
		bedrocktoken.WithCredentialsProvider(role),
		bedrocktoken.WithRenewalErrorHandler(func(err error) { log.Printf("%s: %v", tenant.Name, err) }),
	)
	if err != nil {
		return nil, err
	}
	// It shares the credentials: one AssumeRole serves both regions.
	secondProvider, err := provider.ForRegion(second)
	if err != nil {
		return nil, fmt.Errorf("-fallback: %w", err)
	}
	return &failover{
		tenant: tenant.Name,
		first:  newRegion(provider, base),
		second: newRegion(secondProvider, base),
	}, nil
}

func newRegion(provider *bedrocktoken.Provider, base http.RoundTripper) region {
	return region{
		host:      "bedrock-runtime." + provider.Region() + ".amazonaws.com",
		transport: provider.Transport(base),
	}
}

// RoundTrip tries the second region only if the request has no body or a GetBody.
func (f *failover) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := f.first.send(request, request.Body)
	if !tryElsewhere(request, response, err) {
		return response, err
	}
	body := request.Body
	if body != nil && body != http.NoBody {
		if request.GetBody == nil {
			return response, err
		}
		again, bodyErr := request.GetBody()
		if bodyErr != nil {
			return response, err
		}
		body = again
	}
	if err != nil {
		log.Printf("%s: %s: %v", f.tenant, f.first.host, err)
	} else {
		log.Printf("%s: %s: %s", f.tenant, f.first.host, response.Status)
		io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
		response.Body.Close()
	}
	return f.second.send(request, body)
}

func (r region) send(request *http.Request, body io.ReadCloser) (*http.Response, error) {
	clone := request.Clone(request.Context())
	clone.URL.Scheme, clone.URL.Host, clone.Host = "https", r.host, ""
	clone.Body = body
	return r.transport.RoundTrip(clone)
}

// tryElsewhere reports whether another region may serve a request that this one did
// not. If a connection broke, the model may run twice.
func tryElsewhere(request *http.Request, response *http.Response, err error) bool {
	switch {
	case request.Context().Err() != nil: // nobody waits for an answer
		return false
	case errors.Is(err, bedrocktoken.ErrCredentials): // nor are there any for another region
		return false
	case err != nil:
		return true
	}
	return response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable
}
