// Command bedrock-proxy lets tools that can be given a base URL, but no token that
// changes, call Amazon Bedrock with your AWS credentials. It listens on loopback
// and adds a fresh token to each request. Run it with -h for its flags.
//
// A request's path decides where it goes. The first three replace scheme and host
// of a base URL, and the rest of the path is passed on as it is:
//
//	/runtime/…                             bedrock-runtime
//	/mantle/…                              bedrock-mantle
//	/control/…                             the control plane
//	/model/… /guardrail/… /async-invoke    bedrock-runtime
//	/openai/…                              bedrock-runtime
//	/v1/… /anthropic/…                     bedrock-mantle
//	/foundation-models                     the control plane
//	/inference-profiles                    the control plane
//
// /v1/messages becomes /anthropic/v1/messages.
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
	"io"
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
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/buildinfo"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
)

const usage = `Usage: bedrock-proxy [flags]

Serves Amazon Bedrock on loopback, with a fresh token in each request.

  bedrock-proxy -region us-east-1

BEDROCK_PROXY_KEY is the key that callers must send, if it is set.

Flags:
`

// keyVariable names the key that callers must present.
const keyVariable = "BEDROCK_PROXY_KEY"

// Exit statuses.
const (
	success    = 0
	failed     = 1
	wrongUsage = 2
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout))
}

type settings struct{ region, profile, listen, endpoint string }

func command(args []string, stdout io.Writer) (status int) {
	log.SetPrefix("bedrock-proxy: ")
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)

	var s settings
	flags := flag.NewFlagSet("bedrock-proxy", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said below
	flags.StringVar(&s.region, "region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	flags.StringVar(&s.profile, "profile", "", "`profile` of the shared config files; default: AWS_PROFILE")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8484", "loopback `address` to listen on")
	flags.StringVar(&s.endpoint, "endpoint", "", "`URL` to send all requests to, in place of Bedrock's endpoints in the region")
	version := flags.Bool("version", false, "print the version")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return success
	case err != nil:
		log.Printf("%.400q: see bedrock-proxy -h", err.Error())
		return wrongUsage
	case flags.NArg() > 0:
		log.Printf("unexpected argument %.80q: all settings are flags, see bedrock-proxy -h", flags.Arg(0))
		return wrongUsage
	case *version:
		if _, err := fmt.Fprintln(stdout, buildinfo.Version("bedrock-proxy")); err != nil {
			log.Print(err)
			return failed
		}
		return success
	}

	// Without this the first line of the log that nobody reads any more would kill the
	// program. To ignore the signal instead would make a credential_process ignore it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, s); err != nil {
		log.Print(err)
		return failed
	}
	return success
}

func run(ctx context.Context, s settings) error {
	key, keyed := os.LookupEnv(keyVariable)
	if keyed && key == "" { // as after BEDROCK_PROXY_KEY=$(a command that fails)
		return errors.New(keyVariable + " is empty: set it to a key, or unset it to ask callers for none")
	}
	target, err := parseEndpoint(s.endpoint)
	if err != nil {
		return err
	}
	// This retrieves no credentials: there may be none yet.
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(s.region),
		bedrocktoken.WithProfile(s.profile),
		bedrocktoken.WithRenewalErrorHandler(func(err error) { logRenewal(err, s.profile) }),
	)
	if err != nil {
		return errors.New(explain.Error(err, s.profile))
	}
	listener, err := listen(s.listen)
	if err != nil {
		return err
	}
	log.Printf("listening on http://%s for Bedrock in %s", listener.Addr(), provider.Region())
	return serve(ctx, listener, newProxy(provider, s.profile, target, key, newTransport()))
}

// logRenewal logs that credentials could not be renewed. Callers see nothing of it
// until those that are held expire.
func logRenewal(err error, profile string) {
	log.Printf("credentials not renewed: %s", strings.ReplaceAll(explain.Error(err, profile), "\n", " "))
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
		Protocols:         new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // the AWS SDK for JavaScript speaks nothing else to an http address
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
