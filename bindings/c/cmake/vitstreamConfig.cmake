# find_package(vitstream) gives vitstream::vitstream, the shared library, and vitstream::static, the one that becomes a part of the
# program.
get_filename_component(_vitstream_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include(CMakeFindDependencyMacro)
find_dependency(Threads)
if(NOT TARGET vitstream::vitstream)
  add_library(vitstream::vitstream SHARED IMPORTED)
  set_target_properties(vitstream::vitstream PROPERTIES
    IMPORTED_LOCATION "${_vitstream_prefix}/lib/libvitstream.so.1"
    IMPORTED_SONAME "libvitstream.so.1"
    INTERFACE_INCLUDE_DIRECTORIES "${_vitstream_prefix}/include")
  add_library(vitstream::static STATIC IMPORTED)
  set_target_properties(vitstream::static PROPERTIES
    IMPORTED_LOCATION "${_vitstream_prefix}/lib/libvitstream.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_vitstream_prefix}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()
unset(_vitstream_prefix)
