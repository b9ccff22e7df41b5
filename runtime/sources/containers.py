"""Which formats of videos are read, by FFmpeg's names, and how long it looks at a stream."""

# Videos, and what is told apart from them: sound and pictures. No lists of other files.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegvideo,mpegts,h264,hevc,m4v,asf,flv,ogg,nut,mxf,ivf,obu,dv,gif,mjpeg,"
    "yuv4mpegpipe,wav,mp3,aac,flac,image2,bmp_pipe,gif_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
)
# What needs no seeking, and says itself what it is.
STREAMED = (
    "yuv4mpegpipe,nut,mpegts,mpeg,matroska,ivf,flv,ogg,h264,hevc,mjpeg,mpegvideo,m4v,obu,"
    "ppm_pipe,pgm_pipe,pam_pipe,jpeg_pipe"
)
STREAMS = "y4m, PPM, NUT, MPEG-TS and Matroska"
# What comes over HTTP: no format that names other files or URLs.
OVER_HTTP = "mpjpeg,mjpeg,mpegts,matroska,flv,ogg,nut,h264,hevc,mov"
# Microseconds. FFmpeg looks at a stream for up to 5 s otherwise, and frames are lost meanwhile.
PROMPT = {"analyzeduration": "1"}
# Whose times are made up from a rate.
UNTIMED = ("mpjpeg", "mjpeg", "yuv4mpegpipe", "h264", "hevc")
