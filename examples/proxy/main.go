// Proxy lets tools that can be given a base URL, but no token that changes, call
// Bedrock with your AWS credentials. It listens on loopback and adds a fresh
// token to each request. The path decides where it goes:
//
//	/model/… /openai/…                        bedrock-runtime
//	/v1/… /anthropic/…                        bedrock-mantle
//	/foundation-models /inference-profiles    the control plane
//
// For example with the base URL http://127.0.0.1:8484/v1 for an OpenAI client:
//
//	go run ./proxy -region us-east-1
//
// Whoever can connect to it calls Bedrock in your name. On a machine that others
// use too, set BEDROCK_PROXY_KEY: callers must then present that key as bearer
// token or X-Api-Key.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	region := flag.String("region", "", "AWS `region`; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	profile := flag.String("profile", "", "`profile` of the shared config files; default: AWS_PROFILE")
	address := flag.String("listen", "127.0.0.1:8484", "loopback `address` to listen on")
	endpoint := flag.String("endpoint", "", "`URL` to send all requests to, in place of Bedrock's endpoints in the region")
	flag.Parse()

	log.SetPrefix("proxy: ")
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q: all settings are flags, see -h", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, *region, *profile, *address, *endpoint); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, region, profile, address, endpoint string) error {
	target, err := parseEndpoint(endpoint)
	if err != nil {
		return err
	}
	// This retrieves no credentials: there may be none yet.
	p, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(profile))
	if errors.Is(err, bedrocktoken.ErrRegion) {
		return fmt.Errorf("%w (the flag is -region)", err)
	}
	if err != nil {
		return err
	}
	listener, err := listen(address)
	if err != nil {
		return err
	}
	log.Printf("listening on http://%s for Bedrock in %s", listener.Addr(), p.Region())
	return serve(ctx, listener, newProxy(p, target, os.Getenv("BEDROCK_PROXY_KEY"), newTransport()))
}

// parseEndpoint returns nil for an empty string.
func parseEndpoint(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "": // not shown: it may hold a password
		return nil, errors.New("-endpoint must be a URL such as https://gateway.example.com/bedrock, without user, query and fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, fmt.Errorf("-endpoint %q: a token is sent only over https, or over http to a loopback address", endpoint)
	}
	return u, nil
}

func listen(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if !isLoopback(host) {
		return nil, fmt.Errorf("-listen %q: others on the network would call Bedrock in your name; use a loopback address such as 127.0.0.1:8484", address)
	}
	return net.Listen("tcp", address)
}

// isLoopback reports whether host, which has no port, means this machine whatever
// a DNS server says.
func isLoopback(host string) bool {
	return strings.ToLower(host) == "localhost" || net.ParseIP(host).IsLoopback()
}

// grace is how long running requests may take after the first signal.
const grace = 5 * time.Second

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true, // the handler judges OPTIONS * too
		// No limit for the rest: a model takes minutes, and a stream as long as it lasts.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if server.Shutdown(limit) != nil {
		return server.Close()
	}
	return nil
}
