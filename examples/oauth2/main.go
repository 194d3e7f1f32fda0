// Oauth2 makes a Provider an oauth2.TokenSource, for clients that take nothing
// else, and calls Converse with net/http over an oauth2.Transport.
//
//	go run ./oauth2 -region us-east-1 -model us.amazon.nova-lite-v1:0
//
// A client that takes an http.Client is better served by Provider.Transport: an
// oauth2.Transport sends the token to whatever address a request or a redirect
// names, and a TokenSource has no context, so a caller who gives up goes on
// waiting for the credentials.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
	"golang.org/x/oauth2"
)

func main() {
	region := flag.String("region", "", "AWS region; by default that of the environment or the profile")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "in place of the region's bedrock-runtime")
	flag.Parse()

	ctx := context.Background()
	p, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	base := cmp.Or(*endpoint, "https://bedrock-runtime."+p.Region()+".amazonaws.com")
	answer, err := converse(ctx, newClient(p, nil), base, *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

// A tokenSource returns a fresh token each time. Do not wrap it in
// oauth2.ReuseTokenSource, as oauth2.NewClient does: a token that is kept is still
// sent after its credentials were rotated or revoked.
type tokenSource struct{ provider *bedrocktoken.Provider }

func (s tokenSource) Token() (*oauth2.Token, error) {
	// In place of the caller's context, which is not known here.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := s.provider.RetrieveBearerToken(ctx)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Value, Expiry: token.Expires}, nil
}

func newClient(p *bedrocktoken.Provider, base http.RoundTripper) *http.Client {
	return &http.Client{Transport: &oauth2.Transport{Source: tokenSource{p}, Base: base}}
}

func converse(ctx context.Context, client *http.Client, endpoint, model string) (string, error) {
	body := strings.NewReader(`{"messages": [{"role": "user", "content": [{"text": "Say hello in one sentence."}]}]}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/model/"+url.PathEscape(model)+"/converse", body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return "", fmt.Errorf("%s: %s", response.Status, reason)
	}
	var output struct {
		Output struct {
			Message struct {
				Content []struct{ Text string }
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&output); err != nil {
		return "", err
	}
	if len(output.Output.Message.Content) == 0 {
		return "", errors.New("no text in the answer")
	}
	return output.Output.Message.Content[0].Text, nil
}
