package kernel
import ("testing";"runtime";"golang.org/x/sys/unix";"math/rand";"math";"fmt";"os";"time";"sort"
"github.com/quern-go/quern/asm"
"github.com/quern-go/quern/internal/isa")
func rv(r *rand.Rand,n int)[]float32{v:=make([]float32,n);for i:=range v{v[i]=float32(r.NormFloat64())};return v}
func TestQuick(t *testing.T){
 r:=rand.New(rand.NewSource(1))
 for it:=0;it<150;it++{
  B,G,Hkv:=1+r.Intn(2),1+r.Intn(3),1+r.Intn(2); sq,sk:=r.Intn(300),r.Intn(400);D,Dv:=1+r.Intn(80),1+r.Intn(80)
  if it%20==0 {sk=4200+r.Intn(300); sq=5}
  H:=G*Hkv
  q,k,v:=rv(r,B*H*sq*D),rv(r,B*Hkv*sk*D),rv(r,B*Hkv*sk*Dv)
  opts:=Options{Workers:1+r.Intn(2)}
  if r.Intn(2)==0{opts.Mask=Causal{Align:Alignment(r.Intn(2))}}
  if r.Intn(3)==0 && len(v)>0 {v[r.Intn(len(v))]=float32(math.Inf(1)); if len(k)>0{k[len(k)-1]=float32(math.NaN())}}
  var outs [][]float32
  for _,l:=range []isa.Level{isa.Go,isa.AVX2,isa.AVX512}{
   f:=isa.Use(l)
   out:=make([]float32,B*H*sq*Dv);lse:=make([]float32,B*H*sq);opts.LSE=lse
   err:=Attention(BHSD(out,B,H,sq,Dv),BHSD(q,B,H,sq,D),BHSD(k,B,Hkv,sk,D),BHSD(v,B,Hkv,sk,Dv),opts)
   if err!=nil{t.Fatal(err)}
   outs=append(outs,append(out,lse...));f()
  }
  for x:=1;x<3;x++{for i:=range outs[0]{a,b:=outs[0][i],outs[x][i];if math.Float32bits(a)!=math.Float32bits(b)&&!(a!=a&&b!=b){t.Errorf("it %d level %d [%d of %d] %v %v sq%d sk%d D%d Dv%d G%d %T",it,x,i,len(outs[0]),a,b,sq,sk,D,Dv,G,opts.Mask);break}}}
  // naive
  bad:=0
  for b:=0;b<B;b++{for h:=0;h<H;h++{for i:=0;i<sq;i++{
   kv:=(b*Hkv+h/G)*sk; lim:=sk
   if c,ok:=opts.Mask.(Causal);ok{off:=0;if c.Align==BottomRight{off=sk-sq};lim=min(max(i+off+1,0),sk)}
   s:=make([]float64,lim);m:=math.Inf(-1)
   for j:=range s{for d:=0;d<D;d++{s[j]+=float64(q[((b*H+h)*sq+i)*D+d])*float64(k[(kv+j)*D+d])};s[j]/=math.Sqrt(float64(D));m=math.Max(m,s[j])}
   l:=0.0;o:=make([]float64,Dv);for j:=range s{p:=math.Exp(s[j]-m);l+=p;for d:=range o{o[d]+=p*float64(v[(kv+j)*Dv+d])}}
   for d:=range o{w:=o[d]/l;if lim==0{w=0};g:=float64(outs[0][((b*H+h)*sq+i)*Dv+d]);if (math.Abs(g-w)>2e-6||(math.IsNaN(g)!=math.IsNaN(w)))&&!(math.IsInf(w,0)){bad++;if bad<3{t.Errorf("naive it%d i%d d%d got %v want %v",it,i,d,g,w)}}}
  }}}
 }
}
func cpu() int64 { var ts unix.Timespec; unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID,&ts); return ts.Nano() }
func TestPerf(t *testing.T){
 runtime.LockOSThread()
 if os.Getenv("PERF")==""{t.Skip()}
 r:=rand.New(rand.NewSource(1))
 type cs struct{name string;B,H,Hkv,sq,sk,D int;causal bool}
 for _,c:=range []cs{{"P1",1,8,8,1024,1024,64,false},{"P1c",1,8,8,1024,1024,64,true},{"P2",1,8,8,2048,2048,128,false},{"P2c",1,8,8,2048,2048,128,true},{"P3c",1,1,1,8192,8192,64,true},{"S1",1,12,12,128,128,64,false},{"X1",2,8,8,256,1500,64,false},{"G1",1,32,8,1024,1024,128,true},{"tiny",1,12,12,16,16,64,false},{"S77",1,8,8,77,77,64,false},{"S197",1,8,8,197,197,64,false},{"S577",1,8,8,577,577,64,false},{"D40",1,8,8,1024,1024,40,false},{"D80",1,8,8,1024,1024,80,false},{"D100",1,8,8,1024,1024,100,false},{"D256",1,8,8,1024,1024,256,false}}{
  if s:=os.Getenv("PERF");s!="1"&&s!=c.name{continue}
  for _,l:=range []isa.Level{isa.AVX512,isa.AVX2}{
  if x:=os.Getenv("L");x!=""&&x!=l.String(){continue}
  f:=isa.Use(l)
  opts:=Options{Workers:1};if c.causal{opts.Mask=Causal{}}
  if os.Getenv("W")!=""{fmt.Sscan(os.Getenv("W"),&opts.Workers)}
  q,k,v,o:=rv(r,c.B*c.H*c.sq*c.D),rv(r,c.B*c.Hkv*c.sk*c.D),rv(r,c.B*c.Hkv*c.sk*c.D),rv(r,c.B*c.H*c.sq*c.D)
  Q,K,V,O:=BHSD(q,c.B,c.H,c.sq,c.D),BHSD(k,c.B,c.Hkv,c.sk,c.D),BHSD(v,c.B,c.Hkv,c.sk,c.D),BHSD(o,c.B,c.H,c.sq,c.D)
  p,err:=NewAttention(ShapeOf(Q,K,V),opts);if err!=nil{t.Fatal(err)}
  fl:=4*float64(c.B*c.H*c.sq)*float64(c.sk)*float64(c.D);if c.causal{fl=4*float64(c.B*c.H)*float64(c.D)*float64(c.sk)*float64(c.sk+1)/2}
  var rat []float64; var best float64=1e9
  p.Run(O,Q,K,V)
  reps:=1; if fl<1e8{reps=int(1e8/fl)+1}
  R:=9;fmt.Sscan(os.Getenv("R"),&R);for i:=0;i<R;i++{
   n:=20000; t0:=cpu();asm.PeakFMA(l,n);pk:=float64(n)*24*32/float64(cpu()-t0)
   w0:=time.Now();t0=cpu();for j:=0;j<reps;j++{p.Run(O,Q,K,V)};tt:=float64(cpu()-t0)/float64(reps);if opts.Workers>1{tt=float64(time.Since(w0).Nanoseconds())/float64(reps)}
   rat=append(rat,fl/tt/pk*100);best=min(best,tt)
  }
  sort.Float64s(rat)
  fmt.Printf("%-5s %-7v median %.1f%% best %.1f%%  %.1f GF  %.1f us allocs %v\n",c.name,l,rat[len(rat)/2],rat[len(rat)-1],fl/best,best/1e3,testing.AllocsPerRun(3,func(){p.Run(O,Q,K,V)}))
  f()
 }}
}
