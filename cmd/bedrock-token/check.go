package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
)

// A call tries an endpoint. None needs a model, and none costs anything. An answer
// 200 has the field list.
type call struct{ name, method, host, path, body, list string }

func calls(region string) []call {
	// AWS looks at the token before it looks for the model, which does not exist.
	const prompt = `{"messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 1}}`
	return []call{
		{"control plane", http.MethodGet, "bedrock." + region + ".amazonaws.com", "/foundation-models", "", "modelSummaries"},
		{"runtime", http.MethodPost, "bedrock-runtime." + region + ".amazonaws.com", "/model/bedrock-token-check/converse", prompt, ""},
		{"Mantle", http.MethodGet, "bedrock-mantle." + region + ".api.aws", "/v1/models", "", "data"},
	}
}

// A cause is why an endpoint does not accept a token, and what to do about it. The
// zero value is that of one that does.
type cause struct{ likely, remedy string }

var (
	unknown     = cause{"the answer does not say", "try again; if it stays, ask AWS Support with the answer"}
	unreachable = cause{"the network does not let the request through, or Bedrock has no such endpoint in this region",
		"check the network, HTTPS_PROXY and NO_PROXY, and the region"}
	noEndpoint = cause{"Bedrock has no such endpoint in this region", "none is needed, unless you mean to use it"}
	notBedrock = cause{"a proxy on the way answered, not Bedrock", "let it pass requests to this host"}
	outOfOrder = cause{"the endpoint, or a proxy on the way, is out of order or overloaded", "try again later"}
	wrongClock = cause{"the clock of this machine is wrong", "set it by NTP"}
	badKeys    = cause{"the credentials that signed the token have expired, were revoked or deleted, or do not belong together",
		"sign in again, or set all values of the same credentials; in a program, ask a Provider for a token for each request"}
)

// check tries three endpoints with tokens of the provider, of which token is one,
// writes what came of it, and reports whether all that there are accepted them. The
// profile is the one that the command was given. The error is that of writing.
func check(ctx context.Context, w io.Writer, provider *bedrocktoken.Provider, token bearer.Token, profile string, base http.RoundTripper) (bool, error) {
	calls := calls(provider.Region())
	out := bufio.NewWriter(w) // which keeps an error until Flush
	_, accessKeyID, _ := parse(token.Value)
	fmt.Fprintf(out, "The token is for %s, signed with the access key %s, and expires at %s.\n",
		provider.Region(), accessKeyID, token.Expires.UTC().Format(time.RFC3339))
	if env, err := config.NewEnvConfig(); err == nil && env.Credentials.HasKeys() && env.SharedConfigProfile != "" && profile == "" {
		fmt.Fprintln(out, "The keys in the environment come before AWS_PROFILE. To use the profile, give -profile or unset the keys.")
	}
	if key := os.Getenv("AWS_BEARER_TOKEN_BEDROCK"); key != "" {
		fmt.Fprintf(out, "AWS_BEARER_TOKEN_BEDROCK holds %s. The check does not use it, but the AWS SDKs and other clients send it whatever the code says.\n", describe(key))
	}
	fmt.Fprintf(out, "Proxy: %s\n", proxyFor(calls[0].host))
	client := &http.Client{
		Transport:     provider.Transport(base),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second, // so that all are tried
	}
	var (
		failed, answered bool
		before           cause // of the endpoints above, for which it is written once
	)
	likely := func(why cause) cause {
		if why == noEndpoint && !answered {
			return unreachable
		}
		return why
	}
	next := func(why cause) {
		if before := likely(before); before != likely(why) && before != (cause{}) {
			fmt.Fprintf(out, "  likely cause: %s\n  remedy: %s\n", before.likely, before.remedy)
		}
		before = why
	}
	for _, call := range calls {
		if err := out.Flush(); err != nil { // for who waits
			return false, err
		}
		verdict, why := try(ctx, client, call)
		answered = answered || why != noEndpoint && why != unreachable
		failed = failed || why != noEndpoint && why != (cause{})
		next(why)
		fmt.Fprintf(out, "%s, %s: %s\n", call.name, call.host, explain.Hide(verdict)) // which may quote the token
	}
	next(cause{})
	return answered && !failed, out.Flush()
}

// proxyFor returns the host of the proxy for a host, without user and password.
func proxyFor(host string) string {
	proxy, _ := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
	if proxy == nil {
		return "none"
	}
	return proxy.Host
}

var scope = regexp.MustCompile(`^(\w+)/\d{8}/([a-z0-9-]+)/bedrock/aws4_request$`)

// parse returns the region for which a token was signed, the access key ID that
// signed it, and when it expires at the latest. They are empty if it is none.
func parse(token string) (region, accessKeyID string, expires time.Time) {
	encoded, found := strings.CutPrefix(token, "bedrock-api-key-")
	decoded, _ := base64.StdEncoding.DecodeString(encoded)
	_, query, _ := strings.Cut(string(decoded), "?")
	values, _ := url.ParseQuery(query)
	signed, err := time.Parse("20060102T150405Z", values.Get("X-Amz-Date"))
	life, lifeErr := time.ParseDuration(values.Get("X-Amz-Expires") + "s")
	parts := scope.FindStringSubmatch(values.Get("X-Amz-Credential"))
	if !found || err != nil || lifeErr != nil || parts == nil {
		return "", "", time.Time{}
	}
	return parts[2], parts[1], signed.Add(life)
}

// describe says what an API key is, and shows nothing of it that is secret.
func describe(key string) string {
	if strings.HasPrefix(key, "ABSK") {
		return "a long-term API key"
	}
	region, accessKeyID, expires := parse(key)
	if region == "" {
		return "something that is neither a token nor a long-term API key"
	}
	end := "expired at " + expires.Format(time.RFC3339)
	if time.Until(expires) > 0 {
		end = "expires at " + expires.Format(time.RFC3339) + " or with its credentials"
	}
	return fmt.Sprintf("a token for %s, signed with the access key %s, that %s", region, accessKeyID, end)
}

var (
	notAuthorized = regexp.MustCompile(`not authorized to perform: ([\w-]+:\w+)`)
	policy        = regexp.MustCompile(`\b(?:no|deny in an?) ((?:[\w-]+ )*?(?:policy|boundary))`)
)

// try returns what an endpoint said of a token, and why, if it does not accept it.
func try(ctx context.Context, client *http.Client, call call) (verdict string, why cause) {
	request, err := http.NewRequestWithContext(ctx, call.method, "https://"+call.host+call.path, strings.NewReader(call.body))
	if err != nil {
		return err.Error(), unknown
	}
	request.Header.Set("Content-Type", "application/json")
	var body []byte
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20)) // a list of models may take a tenth of it
	}
	if err != nil {
		text, _, _ := strings.Cut(explain.Error(cmp.Or(errors.Unwrap(err), err), ""), "\n")
		return "no answer: " + text, unanswered(err, call.host)
	}
	message := errorMessage(body)
	var fields map[string]any
	listed := json.Unmarshal(body, &fields) == nil && fields[call.list] != nil
	said := fmt.Sprintf("%d %s %.500q", response.StatusCode, http.StatusText(response.StatusCode), cmp.Or(message, string(body)))
	lacks := notAuthorized.FindStringSubmatch(message)
	switch status := response.StatusCode; {
	case status == http.StatusOK && listed:
		return "accepted", cause{}
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return "no verdict: " + said, outOfOrder
	case status < http.StatusBadRequest, message == "": // an error of Bedrock's has one
		return "no verdict: " + said, notBedrock
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && (lacks == nil || strings.HasSuffix(lacks[1], ":CallWithBearerToken")):
		return "refused: " + said, refused(response, message)
	case lacks == nil && status != http.StatusBadRequest && status != http.StatusNotFound:
		return "no verdict: " + said, unknown
	case call.list == "": // the model that does not exist has been looked for
		return "accepted", cause{}
	case lacks != nil:
		return "accepted, but the identity lacks the permission " + lacks[1], cause{}
	}
	return "accepted, but the call failed: " + said, cause{}
}

// unanswered returns the cause of an error of http.Client.
func unanswered(err error, host string) cause {
	var (
		name        *net.DNSError
		proxy       *net.OpError
		certificate *tls.CertificateVerificationError
		invalid     x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound && name.Name == host: // another's is that of a proxy
		return noEndpoint
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired: // or not yet valid
		return wrongClock
	case errors.As(err, &certificate) && errors.As(err, new(x509.HostnameError)):
		return notBedrock
	case errors.As(err, &certificate):
		var issuer string // of the last one, as it is the authority
		for _, each := range certificate.UnverifiedCertificates {
			issuer = each.Issuer.String()
		}
		return cause{fmt.Sprintf("the authority of the certificate, %.80q, is not trusted here: a proxy on the way has its own, or AWS_CA_BUNDLE lacks Amazon's", issuer),
			"name a file with this authority in AWS_CA_BUNDLE or the profile's ca_bundle, or add it to those that the system trusts"}
	case errors.As(err, &proxy) && proxy.Op == "proxyconnect" && strings.HasSuffix(err.Error(), " answered with status 407"):
		return cause{"the proxy " + proxyFor(host) + " wants a user name and a password", "set HTTPS_PROXY=http://user:password@host:port"}
	case proxy != nil && proxy.Op == "proxyconnect":
		return cause{"the proxy " + proxyFor(host) + " cannot be reached, or does not let the request through", "check HTTPS_PROXY and NO_PROXY, and the proxy"}
	case errors.Is(err, bedrocktoken.ErrCredentials):
		return badKeys
	}
	return unreachable
}

// refused returns the cause of a refusal of the token. It begins with what can be
// known without the words of the message, which are AWS's to change.
func refused(response *http.Response, message string) cause {
	// SigV4 lets clocks differ by 5 minutes.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && time.Since(date).Abs() > 5*time.Minute {
		return wrongClock
	}
	kind, where := "policy", ""
	if named := policy.FindStringSubmatch(message); named != nil {
		kind = named[1]
	}
	if kind != "policy" && kind != "identity-based policy" {
		where = "the " + kind
	}
	message = strings.ToLower(message)
	has := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case has("explicit deny"):
		return cause{"CallWithBearerToken is denied by " + cmp.Or(where, "a policy"),
			"find the Deny in " + cmp.Or(where, "the identity's policies, its permissions boundary or the organization's policies")}
	// The prefix, which "must start with pre-defined prefix" blames, is right.
	case has("callwithbearertoken"), has("pre-defined prefix"):
		return cause{"no " + kind + " gives the identity the permission bedrock:CallWithBearerToken (for Mantle, bedrock-mantle:CallWithBearerToken)",
			"allow it in " + cmp.Or(where, "an IAM policy of the identity") + "; a condition on the type of the token must admit SHORT_TERM"}
	case has("not yet"):
		return wrongClock
	case has("expired"), has("signature"), has("security token"), has("bearer token"):
		return badKeys
	}
	return unknown
}

// errorMessage returns the message of an error that has the form of Bedrock's, which
// is that of AWS or of OpenAI, or "".
func errorMessage(body []byte) string {
	var refusal struct {
		Message string // matches message too
		Error   struct{ Message string }
	}
	if json.Unmarshal(body, &refusal) != nil {
		return ""
	}
	return cmp.Or(refusal.Message, refusal.Error.Message)
}
